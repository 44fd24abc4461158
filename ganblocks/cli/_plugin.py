"""The commands that this package registers, as another package would."""

from __future__ import annotations

from collections.abc import Callable

from ganblocks.cli.blocks import blocks, presets, schema
from ganblocks.cli.convert import convert
from ganblocks.cli.doctor import doctor
from ganblocks.cli.sample import attention_maps, interpolate, sample, style_mix, truncation
from ganblocks.cli.show import show
from ganblocks.cli.train import train

COMMANDS: dict[str, Callable[..., None]] = {
    "train": train,
    "sample": sample,
    "truncation": truncation,
    "style-mix": style_mix,
    "interpolate": interpolate,
    "attention-maps": attention_maps,
    "convert": convert,
    "show": show,
    "blocks": blocks,
    "presets": presets,
    "schema": schema,
    "doctor": doctor,
}
