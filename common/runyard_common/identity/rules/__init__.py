"""Rules: pure decisions about identity."""
