"""The API process: accepts runs, answers at once, and tells callers what happens."""
