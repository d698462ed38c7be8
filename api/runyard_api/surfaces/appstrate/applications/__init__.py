"""Applications, their keys and their end-users (contract, section 13)."""
