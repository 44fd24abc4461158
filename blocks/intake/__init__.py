"""Family intake."""
