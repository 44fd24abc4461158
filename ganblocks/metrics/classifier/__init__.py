"""Scores that need no download: distances in the features of a classifier that is trained at the first use.

One file per data set.
"""
