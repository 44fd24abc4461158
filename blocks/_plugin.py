"""The flat list of what this package registers, as a third party would."""

from __future__ import annotations

from blocks.attention.dense import DenseAttention
from blocks.attention.hydra import HydraNA
from blocks.attention.neighborhood import NeighborhoodAttention
from blocks.feed_forward.mlp import MLP
from blocks.layer.transformer import Transformer
from blocks.norm.adain import AdaIN
from blocks.norm.layer_norm import LayerNorm
from blocks.norm.pixel_norm import PixelNorm
from blocks.norm.sln import SelfModulatedLayerNorm
from registry import Register, hookimpl


@hookimpl
def register_blocks(register: Register) -> None:
    for block in (
        AdaIN,
        DenseAttention,
        HydraNA,
        LayerNorm,
        MLP,
        NeighborhoodAttention,
        PixelNorm,
        SelfModulatedLayerNorm,
        Transformer,
    ):
        register(block)
