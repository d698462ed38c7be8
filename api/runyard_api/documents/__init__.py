"""The parts of the OpenAPI document that are not declared by operations: schemas, tags and examples."""
