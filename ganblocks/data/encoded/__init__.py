"""Latents of images as data: files of them, how they are made, and the pictures that they encode."""
