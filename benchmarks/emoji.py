"""The search for a GAN of emoji at 32 px: candidates are trained under one protocol, scored, and timed.

python -m benchmarks.emoji [CANDIDATE ...] [--seeds 1] [--kimg 60] [--device cuda] [--out runs/emoji-search]

Each line is a run: emoji score of 2,000 images (`ganblocks evaluate --metrics emoji`), kernel distance, precision,
recall, recall of held-out drawings, and images per second of the training. The runs' folders have grids of samples, and
samples above their nearest training images. Runs that are complete are not repeated. docs/emoji.md has results.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from assemblies import parse
from assemblies.models.r3gan.architecture import discriminator_spec as r3gan_discriminator
from assemblies.models.r3gan.architecture import generator_spec as r3gan_generator
from assemblies.models.stylegan2.architecture import generator as stylegan2_generator
from blocks.common.images.value_range import to_symmetric
from ganblocks import generate, open_data, save_grid, train
from ganblocks.metrics.classifier.emoji import EmojiScore
from ganblocks.pixels import from_bytes
from ganblocks.sampling.nearest import beside_nearest
from plugins.emoji_presets import (
    MAPPING,
    emoji_hybrid_32,
    emoji_styleformer_32,
    emoji_stylenat_32,
    emoji_vitgan_32,
    gan_spec,
)
from registry import Spec
from registry.spec_file import write_atomically

NUM_IMAGES = 2000
Step = dict[str, Any]
RELATIVISTIC: Step = {
    "loss": "relativistic",
    "regularizers": tuple({"kind": kind, "gamma": 0.5, "every": 4} for kind in ("r1", "r2")),
}


def stylegan2() -> Step:
    """StyleGAN2's generator, the baseline."""
    return stylegan2_generator(32, channel_base=1024, channel_max=128) | {"z_dim": 64, "mapping": MAPPING}


def r3gan() -> Spec:
    """R3GAN's networks and loss."""
    args = {"BlocksPerStage": [1] * 4, "ExpansionFactor": 2, "KernelSize": 3, "ResamplingFilter": [1, 2, 1]}
    args |= {"ConditionDimension": None}
    widths, groups = [96, 96, 64, 48], [12, 12, 8, 6]
    generator = {"WidthPerStage": widths, "CardinalityPerStage": groups, "NoiseDimension": 64}
    discriminator = {"WidthPerStage": widths[::-1], "CardinalityPerStage": groups[::-1]}
    return gan_spec(
        r3gan_generator(args | generator | {"ConditionEmbeddingDimension": 64}),
        r3gan_discriminator(args | discriminator | {"ConditionEmbeddingDimension": 96}),
        lr=0.001,
        **RELATIVISTIC,
    )


CONV: Step = {"kind": "modulated-conv", "dim": 128}
TO_RGB: Step = {"kind": "to-rgb", "modulation": "modulate", "weight_init": 0.2}


def small_hybrid(low: list[Step], *, convolutions: bool, **training: Any) -> Spec:
    """A hybrid of other layers up to 8 px, and above of Hydra attention with ViTGAN's norm.

    Args:
        low: The steps up to 8 px.
        convolutions: Whether 32 px have StyleGAN2's convolutions, in place of attention.
        training: The training.
    """
    norm: Step = {"kind": "norm", "norm": {"kind": "sln", "gain_init": 1.0}}

    def attention(dim: int, dilations: list[int], repeat: int) -> list[Step]:
        hydra = {"kind": "hydra-na", "num_heads": 4, "kernel_sizes": [3], "dilations": dilations, "equalized": True}
        feed_forward = {"kind": "mlp", "mlp_ratio": 2, "equalized": True}
        block = norm | {"kind": "transformer", "attention": hydra, "feed_forward": feed_forward, "layer_scale": 0.3}
        return [{"kind": "upsample-linear", "dim": dim, "equalized": True}, block | {"repeat": repeat}, norm, TO_RGB]

    small = CONV | {"dim": 48}
    top = [small | {"up": 2}, small, TO_RGB] if convolutions else attention(48, [1, 4], 1)
    synthesis = [*low, *attention(96, [1, 2], 2), *top]
    return gan_spec({"kind": "layered", "z_dim": 64, "mapping": MAPPING, "synthesis": synthesis}, **training)


CONVOLUTIONS: list[Step] = [
    *({"kind": "constant", "resolution": 4, "dim": 128}, CONV, TO_RGB),
    *(CONV | {"up": 2}, CONV, TO_RGB),
]
STYLED_ATTENTION: list[Step] = [
    *({"kind": "constant", "resolution": 8, "dim": 128}, {"kind": "pos-embed"}),
    {"kind": "styled-attention", "dim": 128, "num_heads": 4, "repeat": 2},
    {"kind": "to-rgb", "modulation": "demodulate"},
]


STRONG_AUGMENT: Step = {
    **{"kind": "diffaugment", "policy": ["color", "translation", "cutout"], "color_probability": 0.5},
    **{"translation_probability": 0.9, "translation_ratio": 0.2, "cutout_probability": 0.5, "cutout_ratio": 0.4},
}


def slow_hybrid(**changes: Any) -> Spec:
    """The hybrid preset at half its learning rate and with a strong augmentation."""
    document = emoji_hybrid_32().to_dict() | {"augment": STRONG_AUGMENT} | changes
    for network in ("generator", "discriminator"):
        document[f"{network}_optimizer"]["lr"] /= 2
    return parse(document)


CANDIDATES: dict[str, Callable[[], Spec]] = {
    "stylegan2": lambda: gan_spec(stylegan2()),
    "stylegan2-noaug": lambda: gan_spec(stylegan2(), augment=None),
    "stylegan2-relativistic": lambda: gan_spec(stylegan2(), **RELATIVISTIC),
    "r3gan": r3gan,
    "stylenat": emoji_stylenat_32,
    "styleformer": emoji_styleformer_32,
    "vitgan": emoji_vitgan_32,
    "conv-hydra": lambda: small_hybrid(CONVOLUTIONS, convolutions=False),
    "conv-hydra-conv": lambda: small_hybrid(CONVOLUTIONS, convolutions=True, **RELATIVISTIC),
    "styleformer-hydra-conv": lambda: small_hybrid(STYLED_ATTENTION, convolutions=True, **RELATIVISTIC),
    "hybrid": emoji_hybrid_32,
    "hybrid-slow": slow_hybrid,
    "hybrid-slow-relativistic": lambda: slow_hybrid(
        loss="relativistic", regularizers=[{"kind": kind, "gamma": 0.1, "every": 4} for kind in ("r1", "r2")]
    ),
}


def measure(name: str, seed: int, out: Path, kimg: float | None, device: str) -> dict[str, Any]:
    """Train a candidate, or take its completed run, and measure it."""
    folder = out / f"{name}-{seed}"
    file = folder / "result.json"
    if file.exists():
        row: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return row
    document = CANDIDATES[name]().to_dict() | ({} if kimg is None else {"kimg": kimg})
    options = {"device": device, "cuda_graphs": device.startswith("cuda"), "quiet": True, "resume": "auto"}
    start = time.monotonic()
    generator = train(document, data="emoji", out=folder, seed=seed, **options).generator
    seconds = time.monotonic() - start
    images = generate(generator, range(NUM_IMAGES))
    save_grid(images[:128], folder / "grid.png", columns=16, scale=1, value_range=generator.value_range)
    score = EmojiScore(32)
    reals = from_bytes(open_data("emoji", resolution=32).pixels, "symmetric")
    nearest = beside_nearest(to_symmetric(images[:16], generator.value_range), reals)
    save_grid(nearest, folder / "nearest.png", columns=16, scale=1)
    values = score.values(score.features(images, generator.value_range), score.distance(images, generator.value_range))
    row = {"candidate": name, "seed": seed, "kimg": document["kimg"], "device": device, "seconds": seconds, **values}
    row["ceiling"] = score.ceiling(generator, seed, NUM_IMAGES)
    write_atomically(file, json.dumps(row, indent=2).encode())
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("candidates", nargs="*", default=list(CANDIDATES), metavar="CANDIDATE")
    parser.add_argument("--seeds", type=int, default=1, help="runs per candidate, with seeds 0, 1, ...")
    parser.add_argument("--kimg", type=float, default=None, help="thousands of images; by default the document's")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path, default=Path("runs/emoji-search"))
    args = parser.parse_args()
    print("| candidate | seed | kimg | images/s | score | kernel | precision | recall | held-out | of the untrained |")
    print("|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|")
    for seed in range(args.seeds):
        for name in args.candidates:
            row = measure(name, seed, args.out, args.kimg, args.device)
            numbers = (row[f"emoji{key}"] for key in ("", "_kernel", "_precision", "_recall", "_recall_held_out"))
            cells = [name, f"{seed}", f"{row['kimg']:g}", f"{1000 * row['kimg'] / row['seconds']:.0f}"]
            cells += [f"{number:.3g}" for number in numbers] + [f"{row['emoji'] / row['ceiling']:.1%}"]
            print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
