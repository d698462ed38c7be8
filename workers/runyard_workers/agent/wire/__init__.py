"""Answers of other services as they come over the wire, checked and repaired before a library parses them.

Libraries parse what a service documents. What servers send differs: HTML with status 200, nulls
for counts, text with half of a surrogate pair. Each rule here turns such an answer into a documented one, or into an
error status that the library reports as what it is.
"""
