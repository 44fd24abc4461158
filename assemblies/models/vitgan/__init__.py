"""ViTGAN: transformers as generator and discriminator, in three versions: the paper, the authors' code, another code.

ViTGAN, Lee et al. 2021, https://arxiv.org/abs/2107.04589. `architecture.py` has the paper's networks; `official` and
`reimplementation` have the networks of the two public codes, which differ from the paper and from each other. Both are
tested against recordings at small sizes; parameter counts of the authors' networks are tested at the published sizes.
"""
