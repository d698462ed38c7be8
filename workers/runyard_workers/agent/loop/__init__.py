"""The agent loop: the only place that imports the model library (pydantic-ai) and the providers' clients."""
