"""Compose a hybrid GAN, train it on handwritten digits, and evaluate it.

python examples/build_custom_gan.py [--out runs/custom-gan] [--seed 0]   (three to four minutes of two cores)
"""

import argparse
from pathlib import Path

from assemblies import GAN, check
from ganblocks import DigitScore, generate, open_data, save_grid, train
from ganblocks.pixels import from_bytes
from ganblocks.sampling.interpolation import interpolate
from ganblocks.sampling.nearest import beside_nearest

# A generator is a list of steps over two values: the features and the image so far. Layers change the features, image
# heads add to the image. Here: ViTGAN's self-modulated LayerNorm (sln) with StyleNAT's Hydra attention, ToRGB skips of
# StyleGAN2 at low resolution, and an implicit network (inr) that computes the last patch of each token.
SLN = {"kind": "sln", "gain_init": 1.0}
MLP = {"kind": "mlp", "mlp_ratio": 2, "equalized": True}
STYLED = {"kind": "transformer", "norm": SLN, "feed_forward": MLP, "layer_scale": 0.3}
DENSE = {"kind": "dense", "num_heads": 4, "equalized": True}
HYDRA = {"kind": "hydra-na", "num_heads": 2, "kernel_sizes": [3, 5], "dilations": [1], "equalized": True}
GENERATOR = {
    "kind": "layered",
    "z_dim": 64,
    "image_channels": 1,
    "output_activation": "hardtanh",  # the background of digits is plain black
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
        {"kind": "inr-patches", "patch_size": 2, "hidden_dims": [64, 64], "fourier_dim": 32, "weight_init": 0.2},
    ],
}
# A discriminator is a list too, from an image to logits.
WIDTHS = [{"kind": "conv", "dim": dim} for dim in (48, 64, 96, 96, 96)]
POOL = {"kind": "downsample", "method": "average"}
STEPS = [{"kind": "from-rgb", "dim": 32}, WIDTHS[0], POOL, *WIDTHS[1:3], POOL, WIDTHS[3]]
HEAD = [{"kind": "minibatch-std", "group_size": 8}, WIDTHS[4], {"kind": "linear", "hidden_dim": 96}]

HYBRID = GAN.Spec(
    generator=GENERATOR,
    discriminator={"kind": "layered", "steps": STEPS + HEAD},
    regularizers=[{"kind": "r1", "gamma": 1.0, "every": 8}],
    generator_optimizer={"lr": 4e-3, "decay_fraction": 0.3},
    discriminator_optimizer={"lr": 4e-3, "decay_fraction": 0.3},
    ema={"half_life_kimg": 5},
    batch_size=16,
    kimg=30,
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/custom-gan"))
    parser.add_argument("--seed", type=int, default=0)
    out, seed = vars(parser.parse_args()).values()

    for name, trace in check(HYBRID).items():  # checked before memory is allocated
        print(f"{name}: {len(trace.steps)} steps, {trace.parameters:,} parameters")
    trained = train(HYBRID, data="digits", out=out, seed=seed).generator

    save_grid(generate(trained, range(100)), out / "grid.png", columns=20, scale=2)
    save_grid(interpolate(trained, [3, 14, 15, 92, 65], steps=5), out / "interpolation.png", columns=21, scale=2)
    reals = from_bytes(open_data("digits", resolution=16, image_channels=1).pixels, "symmetric")
    strip = beside_nearest(generate(trained, range(20)), reals)  # samples and their nearest training images
    save_grid(strip, out / "nearest.png", columns=20, scale=2, row_labels=["sample", "nearest"])

    score = DigitScore(16)
    floor, ceiling, reached = score.floor, score.ceiling(trained, seed), score.score(trained)
    print("Fréchet distance from the training digits, in the features of a classifier trained on them:")
    print(f"  held-out real digits (floor) {floor:.2f}, untrained generator (ceiling) {ceiling:.2f}")
    print(f"  trained generator            {reached:.2f}, {reached / ceiling:.2%} of the ceiling")
    print(f"  digits 0 to 9 among 500 samples: {score.votes(generate(trained, range(500))).tolist()}")
    print(f"pictures: grid.png, interpolation.png, nearest.png and losses.png in {out}")


if __name__ == "__main__":
    main()
