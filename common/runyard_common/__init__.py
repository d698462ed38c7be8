"""What the api, the workers and the scheduler share: one folder a noun, and the machinery under them."""
