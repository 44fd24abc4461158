"""Family weight_norm."""
