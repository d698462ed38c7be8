"""Service: what processes do with human tasks, one transaction each."""
