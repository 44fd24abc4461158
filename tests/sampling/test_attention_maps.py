"""Attention maps show the weights in use: with them, the values give the block's output."""

from __future__ import annotations

import json
from typing import ClassVar

import pytest
import torch
from PIL import Image
from torch import nn

from assemblies import parse, save_model
from blocks import DenseAttention, HydraNA, Linformer, NeighborhoodAttention, ShiftedWindowAttention, StyledAttention
from blocks.attention.l2 import L2Attention
from blocks.families import Attention
from ganblocks.errors import UsageError
from ganblocks.sampling.attention_maps import BlockAttention, _attention_of, attention_maps, record_calls
from ganblocks.sampling.attention_sheets import over, save_attention_maps, zoom_of
from registry.kernels import BoundOp
from tests import tiny

SIZE = (7, 11)
CASES = {
    "dense": (DenseAttention, {"num_heads": 3, "relative_position_bias": True}, [("whole map", 3)]),
    "na": (
        NeighborhoodAttention,
        {"num_heads": 2, "kernel_size": 3, "dilation": 2},
        [("window 3x3, dilation 2", 2)],
    ),
    "hydra-na": (
        HydraNA,
        {"num_heads": 3, "kernel_sizes": [3, 7], "dilations": [2, 1]},
        [("window 3x3, dilation 2", 1), ("window 7x7, dilation 1", 2)],
    ),
    "l2": (L2Attention, {"num_heads": 2}, [("whole map, by distance", 2)]),
    "shifted-window": (
        ShiftedWindowAttention,
        {"num_heads": 3, "window_size": 4, "shift_sizes": [0, 1]},
        [("windows of 4x4", 1), ("windows of 4x4, shifted by 1", 2)],
    ),
    "linformer": (Linformer, {"num_heads": 2, "rank": 5}, [("5 projected keys", 2)]),
}


def attention_of(block, *inputs, at):
    """The attention of one block, and its output."""
    records = []

    def analyse(path, module, arguments, calls):
        records.append(_attention_of(path, "kind", module, arguments, calls, at))

    with torch.no_grad(), record_calls(block, analyse):
        y = block(*inputs)
    (one,) = records
    assert isinstance(one, BlockAttention)
    return one, y


def every_pixel(height, width):
    return [((y + 0.5) / height, (x + 0.5) / width) for y in range(height) for x in range(width)]


def randomised(module):
    with torch.no_grad():
        for value in module.parameters():
            value.normal_(0, 0.5)
    return module.eval()


@pytest.mark.parametrize("case", CASES)
def test_the_weights_times_the_values_are_the_output(case):
    torch.manual_seed(0)
    kind, options, labels = CASES[case]
    context = {"dim": 12, "resolution": SIZE}
    block = randomised(kind(**{name: context[name] for name in kind.Context.model_fields}, **options))
    x = torch.randn(1, *SIZE, 12)
    record, y = attention_of(block, x, at=every_pixel(*SIZE))
    assert [(part.label, part.heads) for part in record.partitions] == labels
    values = block.v(x) if case == "l2" else block.qkv(x).chunk(3, dim=-1)[2]
    values = values.reshape(SIZE[0] * SIZE[1], len(record.weights), -1)
    mixed = torch.einsum("nqk,knd->qnd", record.weights.flatten(2), values)
    torch.testing.assert_close(block.proj(mixed.flatten(1)).view(y.shape), y, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(record.received, record.weights.sum(1), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(record.query_key, block.attention_map(x)[0])
    if case != "linformer":  # its projection has weights of either sign
        assert record.weights.min() >= 0
        torch.testing.assert_close(record.weights.sum((-1, -2)), torch.ones(record.weights.shape[:2]))


@pytest.mark.parametrize("rank", [None, 5])
def test_attention_inside_a_layer_has_maps(rank):
    torch.manual_seed(0)
    block = randomised(StyledAttention(8, SIZE, 6, num_heads=2, rank=rank))
    x, ws = torch.randn(1, 8, *SIZE), torch.randn(1, 1, 6)
    record, _ = attention_of(block, x, ws, at=every_pixel(*SIZE))
    weights = torch.ones(2, 77) if rank is None else record.weights.sum((-1, -2))
    torch.testing.assert_close(record.weights.sum((-1, -2)), weights)
    s, t = block.affine(ws[:, 0]).chunk(2, dim=-1)
    values = block.queries_keys_values(x, s, t)[0, :, 16:].view(77, 2, 4)
    mixed = torch.einsum("nqk,knd->qnd", record.weights.flatten(2), values)
    outputs = []
    attend = block.attend
    block.attend = lambda *qkv, **options: outputs.append(attend(*qkv, **options)) or outputs[-1]
    block(x, ws)
    torch.testing.assert_close(mixed.transpose(0, 1), outputs[0][0], rtol=1e-4, atol=1e-5)


def test_weights_are_zero_outside_the_window():
    block = HydraNA(4, (9, 12), num_heads=1, kernel_sizes=(3,), dilations=(2,))
    record, _ = attention_of(randomised(block), torch.randn(1, 9, 12, 4), at=[(0.0, 0.99), (0.5, 0.5)])
    corner, middle = (record.weights[0] > 0).unbind()
    assert corner.nonzero().unique(dim=0).tolist() == [[y, x] for y in (0, 2, 4) for x in (7, 9, 11)]
    assert middle.nonzero().tolist() == [[y, x] for y in (2, 4, 6) for x in (4, 6, 8)]


class Own(Attention, kind="own"):
    """Mixes pixels without an op."""

    examples: ClassVar = ({},)

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.proj = nn.Linear(dim, dim)

    def forward(self, x):
        return x + self.proj(x.mean((1, 2), keepdim=True))


def generator_of(*attentions):
    layers = [{"kind": "transformer", "norm": "sln", "attention": each} for each in attentions]
    steps = [{"kind": "constant", "resolution": [6, 8], "dim": 8}, *layers, {"kind": "to-rgb"}]
    return parse({"kind": "layered", "z_dim": 8, "synthesis": steps}).build().eval()


def test_blocks_come_in_their_order_and_the_generator_is_unchanged():
    generator = generator_of("dense", Own, {"kind": "na", "num_heads": 2, "kernel_size": 3})
    ws = generator.mapping(torch.randn(1, 8))
    expected = generator.synthesis(ws)
    records = []
    unavailable = attention_maps(generator, ws, [(0.5, 0.5)], records.append)
    assert [(each.path, each.kind, each.resolution) for each in records] == [
        ("synthesis.1.attn", "dense", (6, 8)),
        ("synthesis.3.attn", "na", (6, 8)),
    ]
    assert [(each.path, each.reason) for each in unavailable] == [("synthesis.2.attn", "it calls no attention op")]
    assert isinstance(generator.synthesis[1].attn.attend, BoundOp)
    assert not generator.synthesis[1].attn._forward_hooks
    torch.testing.assert_close(generator.synthesis(ws), expected)
    with pytest.raises(ZeroDivisionError):
        attention_maps(generator, ws, [(0.5, 0.5)], lambda _: 1 / 0)
    assert isinstance(generator.synthesis[1].attn.attend, BoundOp)


def test_tokens_that_are_not_pixels_are_reported():
    generator = generator_of({"kind": "shifted-window", "num_heads": 2, "window_size": 4, "shift_sizes": [0]})
    generator.synthesis[1].attn.pixels_of_calls = lambda height, width: iter([torch.arange(48)[None]] * 9)
    (unavailable,) = attention_maps(generator, generator.mapping(torch.randn(1, 8)), [(0.5, 0.5)], lambda _: None)
    assert "queries and" in unavailable.reason


def test_small_windows_are_enlarged():
    record, _ = attention_of(
        randomised(HydraNA(4, (32, 48), num_heads=2, kernel_sizes=(3,), dilations=(1, 8))),
        torch.randn(1, 32, 48, 4),
        at=[(0.0, 0.0)],
    )
    assert [zoom_of(part, record.resolution) for part in record.partitions] == [4, 1]
    cell = over(Image.new("RGB", (96, 64)), record.weights[0, 0], (0.0, 0.0), 4, 48)
    assert cell.size == (48, 32)
    lit = [max(cell.getpixel(pixel)) > 0 for pixel in ((9, 9), (14, 9), (9, 14))]
    assert lit == [True, False, False]  # three by three of twelve by eight pixels, each four wide


@pytest.fixture
def model(tmp_path):
    torch.manual_seed(0)
    save_model(tmp_path / "model.safetensors", randomised(parse(tiny.GENERATOR).build()))
    return tmp_path / "model.safetensors"


def test_a_picture_is_written_per_block(model, tmp_path):
    record = save_attention_maps(model, 3, tmp_path / "new" / "attention", at=[(0, 15), (8, 2)], size=32)
    assert sorted(path.name for path in (tmp_path / "new" / "attention").iterdir()) == [
        "00-4x4-dense.png",
        "01-8x8-hydra-na.png",
        "overview.png",
    ]
    assert record["queries"] == [[0, 15], [8, 2]]
    dense, hydra = record["blocks"]
    assert [part["label"] for part in hydra["partitions"]] == ["window 3x3, dilation 1", "window 3x3, dilation 2"]
    assert [(part["kernel_size"], part["dilation"]) for part in hydra["partitions"]] == [(3, 1), (3, 2)]
    assert (dense["path"], dense["resolution"]) == ("synthesis.1.attn", [4, 4])
    assert Image.open(hydra["picture"]).height > 4 * 32
    json.dumps(record)


def test_invalid_queries_and_outputs_are_refused(model, tmp_path):
    with pytest.raises(UsageError, match="--at 16,3: the image has 16 x 16 pixels"):
        save_attention_maps(model, 0, tmp_path / "attention", at=[(16, 3)])
    with pytest.raises(UsageError, match="are a folder of pictures"):
        save_attention_maps(model, 0, model)
    with pytest.raises(UsageError, match="are a folder of pictures"):
        save_attention_maps(model, 0, tmp_path / "attention.png")
    steps = [{"kind": "constant", "dim": 8}, {"kind": "to-rgb"}]
    save_model(model, parse({"kind": "layered", "z_dim": 8, "synthesis": steps}).build())
    with pytest.raises(UsageError, match="has no attention to show"):
        save_attention_maps(model, 0, tmp_path / "attention")
    assert not (tmp_path / "attention").exists()
