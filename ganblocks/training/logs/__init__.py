"""What a training records: measured means, log records, progress on the screen and loss curves.

Nothing here influences the training.
"""
