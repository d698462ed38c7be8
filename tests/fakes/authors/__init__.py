"""Agents as their authors wrote them for other frameworks: nothing of Runyard is in these modules."""
