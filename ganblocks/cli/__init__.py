"""The command `ganblocks`: one file per group of commands, and the tables that they print.

Modules here import torch only inside the commands, so that `--help` is fast.
"""
