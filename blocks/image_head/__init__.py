"""Family readout."""
