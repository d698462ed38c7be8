"""Sessions: conversations across tasks."""
