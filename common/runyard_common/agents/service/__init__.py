"""Service: what processes do with agents, one transaction each."""
