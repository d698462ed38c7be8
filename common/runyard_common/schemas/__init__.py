"""JSON Schema: documents and values judged by a maintained engine, within bounds. Pure."""
