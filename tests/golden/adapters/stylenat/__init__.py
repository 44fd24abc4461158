"""StyleNAT."""
