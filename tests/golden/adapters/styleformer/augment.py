"""StyleGAN2-ADA's augmentation, with every random number at a given quantile."""

from __future__ import annotations

from blocks.augment.ada import ADA
from blocks.augment.ada.transforms import GROUPS
from tests.golden.fixtures import Fixture, Outputs, adapter

NEW_NAMES = {"imgfilter": "filter"}
MAGNITUDES = {
    **{f"{name}_std": name for name in ("scale", "aniso", "xfrac", "brightness", "contrast", "saturation", "noise")},
    **{f"{name}_max": name for name in ("xint", "rotate", "hue")},
    **{"imgfilter_std": "filter", "cutout_size": "cutout"},
}


def augmentation(options: dict[str, object]) -> ADA:
    """Our block of the reference's constructor arguments."""
    transforms = [transform for group in GROUPS.values() for transform in group]
    magnitude = {MAGNITUDES[name]: value for name, value in options.items() if name in MAGNITUDES}
    factors = {NEW_NAMES.get(name, name): value for name, value in options.items()}
    unknown = [name for name in factors if name not in transforms and name not in MAGNITUDES]
    assert not set(unknown) - {"imgfilter_bands", "aug_linformer"}, unknown
    return ADA(
        policy=tuple(GROUPS),
        probability={name: factors.get(name, 0) for name in transforms},
        magnitude=magnitude,
        bands=options.get("imgfilter_bands", (1, 1, 1, 1)),
        limit=0.7 if options.get("aug_linformer") else None,
    )


@adapter("styleformer", "AugmentPipe")
def augment(fixture: Fixture) -> Outputs:
    block, image = augmentation(fixture.config["kwargs"]), fixture.inputs["img"]
    percentiles = fixture.config["run"]["percentiles"]
    return {f"aug{number}": block(image, block.quantile(image, q)) for number, q in enumerate(percentiles)}
