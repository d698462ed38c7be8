"""Rules: pure decisions about agents."""
