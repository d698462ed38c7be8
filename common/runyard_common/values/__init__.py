"""Values and rules that belong to no noun: errors, ids, bounds, the JSON form. Pure."""
