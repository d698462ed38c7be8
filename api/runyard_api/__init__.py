"""The API process: accepts runs, answers at once, and reports to callers what happens."""
