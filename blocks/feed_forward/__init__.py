"""Family feed_forward."""
