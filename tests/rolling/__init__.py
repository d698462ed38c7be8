"""A rolling deploy under load: processes of the previous release beside new ones, and workers that come and go."""
