"""What the api, workers and scheduler do to tasks: one function, one transaction (or its share of one)."""
