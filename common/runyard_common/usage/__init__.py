"""Usage: tokens and money of model turns."""
