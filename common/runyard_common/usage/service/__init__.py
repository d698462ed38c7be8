"""Service: what processes do with usage, one transaction each."""
