"""The broker: Celery's application, its queues, and the notifier that wakes workers when work waits."""
