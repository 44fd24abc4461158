"""Condition blocks: they encode class labels or captions as condition vectors c [B,D].

Generators and discriminators of conditional models take c beside z or the image.
"""
