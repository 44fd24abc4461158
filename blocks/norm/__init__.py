"""Family norm."""
