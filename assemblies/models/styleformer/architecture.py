"""Styleformer's generators as lists of steps; its discriminator is StyleGAN2-ADA's.

Styleformer, Park and Kim 2021, https://arxiv.org/abs/2106.07023. The functions that take `args` take the reference's
constructor arguments, which its checkpoints store.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from assemblies.generator import LayeredGenerator
from assemblies.models.options import Options, check_options, without
from assemblies.models.stylegan2 import architecture as stylegan2
from assemblies.models.stylegan2.architecture import CLAMP, Step
from registry import Spec, incompatible

HEAD_DIM = 32  # the paper's increased multi-head attention, depth 32 in the repository
RANK = 256  # tokens of Linformer; repository
LINFORMER_FROM = 32  # height of the smallest map on which Styleformer-L has Linformer; repository


def num_heads(dim: int, head_dim: int = HEAD_DIM, smallest: int = 1) -> int:
    """Heads of a layer: each has at least `head_dim` channels; a layer has at least `smallest` heads."""
    return max(smallest, dim // head_dim)


def synthesis_steps(
    start: int,
    dims: Sequence[int],
    num_layers: Sequence[int],
    *,
    head_dim: int = HEAD_DIM,
    smallest_heads: int = 1,
    rank: int | None = None,
    linformer_from: int = LINFORMER_FROM,
    clamp: float | None = CLAMP,
) -> dict[str, Step]:
    """The generator's steps, keyed by the names that the authors' code gives its parts.

    Args:
        start: Height and width of the first map; each resolution doubles it.
        dims: Channels at each resolution.
        num_layers: Layers at each resolution.
        head_dim: Smallest number of channels of a head.
        smallest_heads: Smallest number of heads of a layer.
        rank: Tokens of Linformer; None for attention to all pixels at every resolution.
        linformer_from: Height of the smallest map on which layers have Linformer.
        clamp: Largest magnitude of a layer's output.
    """
    steps: dict[str, Step] = {f"b{start}_0.const": {"kind": "constant", "resolution": start, "dim": dims[0]}}
    for number, (dim, layers) in enumerate(zip(dims, num_layers, strict=True)):
        size, last = start << number, number == len(dims) - 1
        steps[f"b{size}_0.pos_embedding"] = {"kind": "pos-embed"}
        for layer in range(layers):
            out_dim = dim if last or layer < layers - 1 else dims[number + 1]
            steps[f"b{size}_{layer}.enc"] = {
                "kind": "styled-attention",
                "dim": out_dim,
                "num_heads": num_heads(dim, head_dim, smallest_heads),
                "rank": rank if size >= linformer_from else None,
                "clamp": clamp,
            }
        steps[f"b{size}_{layers - 1}.torgb"] = {"kind": "to-rgb", "modulation": "demodulate"}
        if not last:
            steps[f"b{size}_{layers - 1}.upsample"] = {"kind": "upsample"}
    return steps


def generator(start: int, dims: Sequence[int], num_layers: Sequence[int], **options: Any) -> dict[str, Any]:
    """A generator whose z and w have 512 features, with a mapping of 2 layers.

    The options are those of `synthesis_steps`.
    """
    return with_mapping(synthesis_steps(start, dims, num_layers, **options))


def hybrid_generator(
    resolution: int, dims: Sequence[int], num_layers: Sequence[int], channel_base: int
) -> dict[str, Any]:
    """Styleformer-C: styled attention from 8 pixels on, then StyleGAN2's convolutions up to the resolution."""
    sizes = [8 << number for number in range(len(dims), (resolution // 8).bit_length())]
    steps = synthesis_steps(8, dims, num_layers)
    for size in sizes:
        steps |= stylegan2.conv_steps(size, stylegan2.width(size, channel_base, 512), clamp=CLAMP)
    return with_mapping(steps)


def with_mapping(steps: dict[str, Step]) -> dict[str, Any]:
    mapping = {"kind": "mapping", "num_layers": 2}
    return {"kind": "layered", "z_dim": 512, "mapping": mapping, "synthesis": list(steps.values())}


def generator_spec(args: Options) -> Spec:
    """The generator of the reference's arguments: z_dim, c_dim, w_dim, img_resolution, img_channels and so on.

    The reference reserves more style vectors than its synthesis uses: one more for each resolution but the first. The
    generator here has only those that are used.

    Raises:
        IncompatibleError: No block has one of these options.
    """
    synthesis = list(reference_synthesis(args).values())
    return LayeredGenerator.Spec(**stylegan2.generator_options(args), synthesis=synthesis)


def reference_synthesis(args: Options) -> dict[str, Step]:
    """`synthesis_steps` of the reference's arguments.

    The first resolution follows from the number of resolutions: 8, or 12 after the edit that the reference's README
    describes for STL-10.

    Raises:
        IncompatibleError: No block has one of these options, or the resolutions do not fit the images.
    """
    options = without(args["synthesis_kwargs"], "channel_base", "channel_max")  # the reference does not use these
    num_layers, dims = options.pop("num_layers"), options.pop("G_dict")
    size, doublings = args["img_resolution"], len(num_layers) - 1
    if len(dims) < len(num_layers):
        raise incompatible(
            ("synthesis_kwargs", "G_dict"), f"{len(dims)} widths for the {len(num_layers)} resolutions of num_layers"
        )
    if size % (1 << doublings):
        raise incompatible(
            ("synthesis_kwargs", "num_layers"),
            f"{len(num_layers)} resolutions, each twice the previous one, cannot end at {size}",
        )
    steps = synthesis_steps(
        size >> doublings,
        dims[: len(num_layers)],
        num_layers,
        head_dim=options.pop("depth", HEAD_DIM),
        smallest_heads=options.pop("minimum_head", 1),
        rank=RANK if options.pop("linformer", False) else None,
        clamp=options.pop("conv_clamp", None),
    )
    check_options(
        ("synthesis_kwargs",), options, architecture="skip", resample_filter=stylegan2.BINOMIAL, activation="lrelu"
    )
    return steps
