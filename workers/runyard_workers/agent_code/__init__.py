"""Code of agents' authors: imported, listed, and what it prints, raises and returns."""
