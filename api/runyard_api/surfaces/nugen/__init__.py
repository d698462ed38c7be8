"""nugen: run agents by name and manage them (docs/fronts/nugen.md)."""
