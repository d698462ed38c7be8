"""One attempt of a task: prepared, executed, classified, recorded."""
