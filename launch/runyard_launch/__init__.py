"""The launcher: one supervisor that brings broker, model, api, workers and scheduler up as children."""
