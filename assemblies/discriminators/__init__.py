"""Discriminators of another topology than one list: on frozen networks, and at several scales."""
