"""Statistics: what runs did over time, added up once, and how much work waited."""
