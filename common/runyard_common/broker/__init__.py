"""The broker: Celery's application, its queues, and the doorbell that tells workers that work waits."""
