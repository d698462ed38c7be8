"""Service: what processes do with sessions, one transaction each."""
