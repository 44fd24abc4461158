"""Parts of a training step: augmentations, compiled networks, captured phases, and skipped optimizer steps."""
