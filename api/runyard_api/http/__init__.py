"""HTTP: requests, bodies, errors, operations and streams, as every API surface uses them."""
