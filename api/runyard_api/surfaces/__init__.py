"""Wire contracts of published run-an-agent APIs, each a thin translation onto the engine."""
