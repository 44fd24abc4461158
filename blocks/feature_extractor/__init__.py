"""The family `feature-extractor`: frozen networks that metrics compare images in.

One file per kind. Networks of other libraries are in `plugins`.
"""
