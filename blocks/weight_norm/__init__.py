"""The family `weight-norm`: reparametrisations of the weights of linear layers and convolutions.

One file per kind; `apply.py` adds them to a network, and `converge.py` brings their power iterations to convergence.
"""
