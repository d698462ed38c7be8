"""Access: who calls, by key, token or cookie, and how often."""
