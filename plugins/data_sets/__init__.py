"""Data sets of other libraries, which `--data` opens by name."""
