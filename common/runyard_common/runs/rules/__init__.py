"""Rules: pure decisions about runs."""
