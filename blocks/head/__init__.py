"""Family head."""
