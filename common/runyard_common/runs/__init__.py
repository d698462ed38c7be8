"""Runs: lifecycle, limits, claims, attempts, retries and rescues of tasks."""
