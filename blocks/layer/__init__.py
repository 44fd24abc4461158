"""Layers: the steps of a generator or discriminator, from features [B,C,H,W] to features of any shape.

In a generator a layer may take style vectors ws [B,n,S]; in a discriminator there are none.
"""
