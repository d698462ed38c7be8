"""Rules: pure decisions about schedules."""
