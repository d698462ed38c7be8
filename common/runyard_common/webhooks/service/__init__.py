"""Service: what processes do with webhooks, one transaction each."""
