"""Family regularizer."""
