"""The native API: a superset of the nanonets contract, under /api/v1 and /v1; tasks also at the root."""
