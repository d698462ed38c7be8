"""The ops console: one page, its stylesheet and its scripts, over the native API."""
