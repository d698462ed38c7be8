"""Pure rules: no framework, no driver, no network, no event loop."""
