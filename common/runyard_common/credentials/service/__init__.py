"""Service: what processes do with credentials, one transaction each."""
