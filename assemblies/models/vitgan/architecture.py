"""The networks of ViTGAN's paper as lists of steps.

ViTGAN, Lee et al. 2021, https://arxiv.org/abs/2107.04589. "Unverified" marks a value that is from memory: the paper's
text was not at hand.
"""

from __future__ import annotations

from typing import Any

Options = dict[str, Any]
ISN: Options = {"kind": "improved-spectral-norm", "sigma": "power-iteration"}  # of both codes


def generator(
    resolution: int,
    *,
    patch_size: int,
    depth: int,
    dim: int = 384,  # the paper; ViT-Small
    num_heads: int = 6,  # the paper
    mapping_layers: int = 8,  # the authors' code
    gain_init: float = 0.0,  # the paper as printed
    hidden_dims: tuple[int, ...] = (512, 512, 512),  # the authors' code; the paper's network has one (unverified)
    head_mapping_layers: int = 4,  # the authors' code
    noise: bool = True,  # the authors' code
    weight_init: float = 1.0,
    image_channels: int = 3,
) -> Options:
    """The generator: tokens of Fourier features, blocks with self-modulated LayerNorm, one implicit network per patch.

    Args:
        resolution: Height and width of the images.
        patch_size: Side of a patch.
        depth: Transformer blocks.
        dim: Features of a token.
        num_heads: Heads of an attention.
        mapping_layers: Layers of the mapping from z to w.
        gain_init: Value around which the gains computed from w start.
        hidden_dims: Widths of the implicit networks.
        head_mapping_layers: Layers between a token and the modulation of its implicit network.
        noise: Whether implicit networks get noise.
        weight_init: Standard deviation of the output layer's weights at the start.
        image_channels: Channels of the image.
    """
    norm: Options = {"kind": "sln", "gain_init": gain_init}
    block: Options = {
        "kind": "transformer",
        "norm": norm,
        "attention": {"kind": "dense", "num_heads": num_heads, "qkv_bias": False, "equalized": True},
        "feed_forward": {"kind": "mlp", "equalized": True},  # equalised learning rate: unverified
        "repeat": depth,
    }
    patches: Options = {
        "kind": "inr-patches",
        "patch_size": patch_size,
        "hidden_dims": list(hidden_dims),
        "mapping_layers": head_mapping_layers,
        "noise": noise,
        "weight_init": weight_init,
    }
    tokens: Options = {"kind": "learned-tokens", "dim": dim, "resolution": resolution // patch_size, "latent": "none"}
    return {
        "kind": "layered",
        "z_dim": dim,  # the authors' code
        "mapping": {"kind": "mapping", "num_layers": mapping_layers},
        "synthesis": [
            tokens,
            block,
            {"kind": "norm", "norm": norm},
            patches,
        ],
        "image_channels": image_channels,
    }


def discriminator(
    *,
    patch_size: int,
    depth: int,
    overlap: int | None = None,
    dim: int = 384,  # the paper; ViT-Small
    num_heads: int = 6,  # the paper
    scale: float | None = None,
    pos_init: float | None = None,
) -> Options:
    """The discriminator: overlapping patches, L2 attention, improved spectral norm, a class token.

    Args:
        patch_size: Side of a patch.
        depth: Transformer blocks.
        overlap: Margin around each patch; half a patch by default.
        dim: Features of a token.
        num_heads: Heads of an attention.
        scale: Factor of the distances, for attention with equalised learning rate. None for the paper's
            head_dim ** -0.5 and small initial weights, as in vision transformers. With weights of unit variance and
            this factor, attention starts as the identity (measured: 99.99 % of the class token's weight is on itself).
        pos_init: Standard deviation of the positions at the start; None for vision transformers' 0.02.
    """
    heads: Options = {"kind": "l2", "num_heads": num_heads, "qkv_bias": False}
    heads |= {"equalized": scale is not None, "scale": scale}
    steps: list[Options] = [
        {
            "kind": "overlapping-patches",
            "dim": dim,
            "patch_size": patch_size,
            "overlap": patch_size // 2 if overlap is None else overlap,  # unverified
            "pos_init": pos_init,
            "class_token": True,
        },
        {
            "kind": "transformer",
            "attention": heads,
            "feed_forward": {"kind": "mlp", "equalized": True},
            "repeat": depth,
        },
        {"kind": "class-token"},  # one linear map: unverified
    ]
    norm = {"kind": "improved-spectral-norm", "sigma": "tracked"}
    return {"kind": "layered", "steps": steps, "weight_norm": norm}


def mlp_ratio(hidden_dim: int, dim: int) -> float:
    """A hidden layer's width in units of `dim`, such that `MLP`, which rounds down, has exactly this width."""
    exact = hidden_dim / dim
    return exact if int(dim * exact) == hidden_dim else (hidden_dim + 0.5) / dim
