"""Compose a GAN that no paper has, check it, train it on handwritten digits, and look closely at what it learnt.

    python examples/build_custom_gan.py [--out runs/custom-gan] [--seed 0] [--kimg 40]

Two CPU cores need about four minutes.
"""

import argparse
import time
from pathlib import Path

from assemblies import GAN, check
from workbench import DigitScore, draw, open_data, save_grid, train
from workbench.pixels import from_bytes
from workbench.sample import beside_nearest, interpolate

RESOLUTION = 16

# A generator is a list over two values: the features and the image so far. Layers change the features, readouts add to
# the image. Here: ViTGAN's self-modulated LayerNorm (sln) around StyleNAT's Hydra attention, a sum of images
# as in StyleGAN2 at low resolution, and an implicit network (inr) that paints each token's last patch.
SLN = {"kind": "sln", "gain_init": 1.0}
MLP = {"kind": "mlp", "mlp_ratio": 2, "equalized": True}
STYLED = {"kind": "transformer", "norm": SLN, "feed_forward": MLP, "layer_scale": 0.5}
DENSE = {"kind": "dense", "num_heads": 4, "equalized": True}
HYDRA = {"kind": "hydra-na", "num_heads": 2, "kernel_sizes": [3, 5], "dilations": [1], "equalized": True}
GENERATOR = {
    "kind": "layered",
    "z_dim": 64,
    "image_channels": 1,
    "mapping": {"kind": "mapping", "num_layers": 2},
    "synthesis": [
        {"kind": "constant", "resolution": 4, "dim": 128},
        STYLED | {"attention": DENSE},
        {"kind": "norm", "norm": SLN},
        {"kind": "to-rgb", "modulation": "modulate", "weight_init": 0.2},
        {"kind": "upsample-linear", "dim": 64, "equalized": True},
        STYLED | {"attention": HYDRA, "repeat": 2},
        {"kind": "norm", "norm": SLN},
        {"kind": "to-rgb", "modulation": "modulate", "weight_init": 0.2},
        {"kind": "inr-patches", "patch_size": 2, "hidden_dims": [32, 32], "fourier_dim": 16, "weight_init": 0.2},
    ],
}
# A discriminator is a list too.
DISCRIMINATOR = {
    "kind": "layered",
    "steps": [
        {"kind": "from-rgb", "dim": 16},
        {"kind": "residual-conv", "dim": 48},
        {"kind": "residual-conv", "dim": 96},
        {"kind": "minibatch-std", "group_size": 8},
        {"kind": "conv", "dim": 96},
        {"kind": "linear", "hidden_dim": 96},
    ],
}
HYBRID = GAN.Spec(
    generator=GENERATOR,
    discriminator=DISCRIMINATOR,
    regularizers=[{"kind": "r1", "gamma": 4.0, "every": 8}],
    generator_optimizer={"lr": 4e-3, "decay_kimg": 12},
    discriminator_optimizer={"lr": 4e-3, "decay_kimg": 12},
    ema={"half_life_kimg": 5},
    batch_size=32,
    kimg=40,
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/custom-gan"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kimg", type=float, default=HYBRID.kimg)
    options = parser.parse_args()
    out = options.out

    for name, survey in check(HYBRID).items():  # every shape and every misfit, before any memory is spent
        size = f"{survey.parameters:,} parameters, {survey.multiply_adds:,} multiply-adds"
        print(f"{name}: {len(survey.steps)} steps, {size}")

    began = time.time()
    run = train(HYBRID, data="digits", out=out, seed=options.seed, kimg=options.kimg)
    print(f"trained on {options.kimg:g} thousand images in {time.time() - began:.0f} s")

    save_grid(draw(run.generator, range(100)), out / "grid.png", columns=20, scale=2)
    save_grid(interpolate(run.generator, [3, 14, 15, 92, 65], steps=12), out / "interpolation.png", columns=7, scale=2)
    reals = from_bytes(open_data("digits", resolution=RESOLUTION, image_channels=1).pixels, "symmetric")
    strip = beside_nearest(draw(run.generator, range(20)), reals)  # samples above, their nearest training images below
    save_grid(strip, out / "nearest.png", columns=20, scale=2, row_labels=["sample", "nearest"])

    score = DigitScore(RESOLUTION)
    trained, ceiling = score.score(run.generator), score.ceiling(run.generator, options.seed)
    print("Fréchet distance from the training digits, in the features of a digit classifier")
    print(f"  held-out real digits (floor)     {score.floor:8.2f}   {score.floor / ceiling:6.2%} of the ceiling")
    print(f"  untrained generator (ceiling)    {ceiling:8.2f}")
    print(f"  trained generator                {trained:8.2f}   {trained / ceiling:6.2%} of the ceiling")
    votes = score.votes(draw(run.generator, range(500)))
    print(f"  digits among 500 samples         {', '.join(f'{digit}: {n}' for digit, n in enumerate(votes.tolist()))}")
    print(f"pictures: {out / 'grid.png'}, interpolation.png, nearest.png, losses.png beside it")


if __name__ == "__main__":
    main()
