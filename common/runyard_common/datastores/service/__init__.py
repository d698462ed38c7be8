"""Service: what processes do with datastores, one transaction each."""
