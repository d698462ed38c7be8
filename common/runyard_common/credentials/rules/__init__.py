"""Rules: pure decisions about credentials."""
