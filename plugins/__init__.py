"""First-party plugins for optional libraries. They are found through entry points, as plugins of other packages are."""
