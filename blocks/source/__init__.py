"""Family source."""
