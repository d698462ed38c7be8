"""nara: run a functional agent and get its structured result (docs/fronts/nara.md)."""
