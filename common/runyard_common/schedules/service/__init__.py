"""Service: what processes do with schedules, one transaction each."""
