"""Family kernels."""
