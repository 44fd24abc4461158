"""The family `head`: from a discriminator's features, and a condition, to logits.

One file per kind; `projection.py` holds the conditional part that all heads share.
"""
