"""A protocol that this folder and one line register: nothing else knows of it."""
