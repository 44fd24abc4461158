"""`python -m ganblocks` and `torchrun -m ganblocks`: the command line."""

from __future__ import annotations

from ganblocks.cli.app import main

if __name__ == "__main__":
    main()
