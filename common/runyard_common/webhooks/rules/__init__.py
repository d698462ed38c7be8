"""Rules: pure decisions about webhooks."""
