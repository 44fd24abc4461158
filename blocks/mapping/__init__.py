"""Family mapping."""
