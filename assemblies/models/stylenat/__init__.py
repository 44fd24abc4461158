"""StyleNAT and StyleSwin: generators of transformer blocks with local attention, a wavelet discriminator.

StyleNAT, Walton et al. 2022, https://arxiv.org/abs/2211.05770; StyleSwin, Zhang et al. 2021,
https://arxiv.org/abs/2112.10762. Outputs and gradients are tested against recordings of the authors' StyleNAT code at
small sizes, parameter counts at the published sizes.
"""
