"""Metrics for Prometheus: what is measured (`families`), where (`points`), and how it is served (`server`)."""
