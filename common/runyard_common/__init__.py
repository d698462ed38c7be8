"""What the api, the workers and the scheduler share: the domain, the store, the broker, the services."""
