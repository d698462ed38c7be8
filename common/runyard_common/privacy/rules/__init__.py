"""What privacy requests go by."""
