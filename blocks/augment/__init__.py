"""Family augment."""
