"""Service: what processes do with identity, one transaction each."""
