"""Runs things: train, sample, show, doctor; one command, `ganblocks`."""
