"""Webhook endpoints and deliveries of the native API."""
