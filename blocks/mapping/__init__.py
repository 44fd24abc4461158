"""Mapping networks: latents z [B,Z] and conditions c [B,D] to style vectors ws [B,n,S].

They track the mean style `w_avg` in training mode, which the truncation trick needs.
"""
