"""Networks and metrics of torch-fidelity."""
