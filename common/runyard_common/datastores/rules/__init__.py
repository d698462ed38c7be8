"""Rules: pure decisions about datastores."""
