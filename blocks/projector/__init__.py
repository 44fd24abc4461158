"""The family `projector`: from a discriminator's features to tokens that are aligned with those of another network."""
