"""Family attention."""
