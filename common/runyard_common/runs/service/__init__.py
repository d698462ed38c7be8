"""Service: what processes do with runs, one transaction each."""
