"""Reading attached files: what they are, their text, in child processes."""
