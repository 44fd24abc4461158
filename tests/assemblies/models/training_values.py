"""The training values of a preset in one flat table, with the learning rates and betas that Adam gets."""

from __future__ import annotations

from typing import Any

from assemblies import GAN, read
from ganblocks.training.optimizer import corrected


def training_values(name: str) -> dict[str, Any]:
    """The training values of a preset by name; regularizers by kind, such as "r1.gamma"."""
    return values_of(read(name, GAN))


def values_of(spec: Any) -> dict[str, Any]:
    """The training values of a GAN document."""
    output = getattr(spec.generator, "output_activation", "linear")
    values: dict[str, Any] = {
        **({} if output == "linear" else {"output": output}),
        "loss": spec.loss.kind,
        "value_range": spec.generator.value_range,
        **(
            {} if (output := getattr(spec.generator, "output_activation", "linear")) == "linear" else {"output": output}
        ),
        "batch_size": spec.batch_size,
        "kimg": spec.kimg,
        "style_mixing": spec.style_mixing,
        **({"same_latents": True} if spec.same_latents else {}),
        "flip": spec.flip,
        "resize_filter": spec.resize_filter,
        "ema": (spec.ema.half_life_kimg, spec.ema.ramp_up, spec.ema.start_kimg),
        "regularizers": [each.kind for each in spec.regularizers],
        "augment": augment_values(spec.augment),
    }
    sides = dict.fromkeys(("r1", "r2", "approximate-r1", "approximate-r2", "bcr", "token-alignment"), "D")
    sides |= dict.fromkeys(("path-length", "clip-guidance"), "G")
    for side, adam in {"G": spec.generator_optimizer, "D": spec.discriminator_optimizer}.items():
        lazy = [each.every for each in spec.regularizers if sides[each.kind] == side and each.every > 1]
        values[f"{side}.lr"], values[f"{side}.betas"] = corrected(adam, lazy)
        values[f"{side}.eps"] = adam.eps
        values[f"{side}.schedule"] = (adam.warmup_kimg, adam.decay_kimg)
        values[f"{side}.clip_norm"] = adam.clip_norm
        if adam.decay_fraction:
            values[f"{side}.decay_fraction"] = adam.decay_fraction
    for regularizer in spec.regularizers:
        for option, value in regularizer.to_dict().items():
            if option not in ("kind", "augment"):
                values[f"{regularizer.kind}.{option}"] = value
        if regularizer.kind == "bcr":
            values["bcr.augment"] = augment_values(regularizer.augment)
    return values


def augment_values(augment: Any) -> dict[str, Any] | None:
    """The options of an augmentation; of DiffAugment, only those of the functions in its policy."""
    if augment is None:
        return None
    options: dict[str, Any] = augment.to_dict()
    if augment.kind == "fading-blur":
        options["then"] = augment_values(augment.then)
    if augment.kind != "diffaugment":
        return options
    policy = options["policy"]
    named = {name: value for name, value in options.items() if name.partition("_")[0] in policy}
    return {"kind": "diffaugment", "policy": policy, **named}


def differences(values: dict[str, Any], expected: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """What differs, as (value, expected value); numbers agree to a relative error of 1e-6."""
    names = values.keys() | expected.keys()
    pairs = {name: (values.get(name, "missing"), expected.get(name, "not expected")) for name in sorted(names)}
    return {name: pair for name, pair in pairs.items() if not agree(*pair)}


def agree(value: Any, expected: Any) -> bool:
    if isinstance(value, (list, tuple)) and isinstance(expected, (list, tuple)):
        return len(value) == len(expected) and all(map(agree, value, expected))
    if isinstance(value, dict) and isinstance(expected, dict):
        return value.keys() == expected.keys() and all(agree(value[key], expected[key]) for key in value)
    if isinstance(value, (int, float)) and isinstance(expected, (int, float)) and not isinstance(value, bool):
        return abs(value - expected) <= 1e-6 * abs(expected)
    return bool(value == expected)
