"""Family loss."""
