"""A run on disk: its folder, what must stay the same when it is resumed, and the lock that one training holds."""
