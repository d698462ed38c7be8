"""Celery workers: claim tasks, run agents on one event loop, deliver callbacks."""
