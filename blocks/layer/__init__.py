"""Family layer."""
