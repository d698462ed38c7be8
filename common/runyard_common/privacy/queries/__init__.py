"""What there is of an organisation or a person, in the database."""
