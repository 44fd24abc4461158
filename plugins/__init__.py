"""First-party plugins: bridges to libraries that are optional. They arrive by entry point, like anybody's."""
