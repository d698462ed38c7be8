"""agentbase: say something to an agent and follow what it does (docs/fronts/agentbase.md)."""
