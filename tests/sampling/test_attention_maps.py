"""Pictures of attention show what was really paid: the weights in them make the block's output from its values."""

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
from ganblocks.sampling.attention_maps import BlockAttention, _attended, attention_maps, listening
from ganblocks.sampling.attention_sheets import attention_map_files, over, zoom_of
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
    "linformer": (Linformer, {"num_heads": 2, "rank": 5}, [("5 sums of all pixels", 2)]),
}


def attended(block, *inputs, at):
    """What one block does, as `look` would show it."""
    found = []
    with (
        torch.no_grad(),
        listening(
            block, lambda path, module, given, calls: found.append(_attended(path, "kind", module, given, calls, at))
        ),
    ):
        y = block(*inputs)
    (one,) = found
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
def test_the_weights_in_the_pictures_make_the_output_from_the_values(case):
    torch.manual_seed(0)
    kind, options, labels = CASES[case]
    context = {"dim": 12, "resolution": SIZE}
    block = randomised(kind(**{name: context[name] for name in kind.Context.model_fields}, **options))
    x = torch.randn(1, *SIZE, 12)
    found, y = attended(block, x, at=every_pixel(*SIZE))
    assert [(part.label, part.heads) for part in found.partitions] == labels
    values = block.v(x) if case == "l2" else block.qkv(x).chunk(3, dim=-1)[2]
    values = values.reshape(SIZE[0] * SIZE[1], len(found.weights), -1)
    mixed = torch.einsum("nqk,knd->qnd", found.weights.flatten(2), values)
    torch.testing.assert_close(block.proj(mixed.flatten(1)).view(y.shape), y, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.received, found.weights.sum(1), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.query_key, block.attention_map(x)[0])
    if case != "linformer":  # whose sums of pixels have weights of either sign
        assert found.weights.min() >= 0
        torch.testing.assert_close(found.weights.sum((-1, -2)), torch.ones(found.weights.shape[:2]))


@pytest.mark.parametrize("rank", [None, 5])
def test_attention_inside_a_layer_is_pictured_too(rank):
    torch.manual_seed(0)
    block = randomised(StyledAttention(8, SIZE, 6, num_heads=2, rank=rank))
    x, ws = torch.randn(1, 8, *SIZE), torch.randn(1, 1, 6)
    found, _ = attended(block, x, ws, at=every_pixel(*SIZE))
    weights = torch.ones(2, 77) if rank is None else found.weights.sum((-1, -2))
    torch.testing.assert_close(found.weights.sum((-1, -2)), weights)
    s, t = block.affine(ws[:, 0]).chunk(2, dim=-1)
    values = block.queries_keys_values(x, s, t)[0, :, 16:].view(77, 2, 4)
    mixed = torch.einsum("nqk,knd->qnd", found.weights.flatten(2), values)
    heard = []
    attend = block.attend
    block.attend = lambda *qkv, **options: heard.append(attend(*qkv, **options)) or heard[-1]
    block(x, ws)
    torch.testing.assert_close(mixed.transpose(0, 1), heard[0][0], rtol=1e-4, atol=1e-5)


def test_a_window_is_lit_where_it_is_and_nowhere_else():
    block = HydraNA(4, (9, 12), num_heads=1, kernel_sizes=(3,), dilations=(2,))
    found, _ = attended(randomised(block), torch.randn(1, 9, 12, 4), at=[(0.0, 0.99), (0.5, 0.5)])
    corner, middle = (found.weights[0] > 0).unbind()
    assert corner.nonzero().unique(dim=0).tolist() == [[y, x] for y in (0, 2, 4) for x in (7, 9, 11)]
    assert middle.nonzero().tolist() == [[y, x] for y in (2, 4, 6) for x in (4, 6, 8)]


class Own(Attention, kind="own"):
    """Mixes pixels by no op at all."""

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


def test_blocks_are_looked_at_in_their_order_and_the_generator_stays_as_it_was():
    generator = generator_of("dense", Own, {"kind": "na", "num_heads": 2, "kernel_size": 3})
    ws = generator.mapping(torch.randn(1, 8))
    expected = generator.synthesis(ws)
    found = []
    unseen = attention_maps(generator, ws, [(0.5, 0.5)], found.append)
    assert [(each.path, each.kind, each.resolution) for each in found] == [
        ("synthesis.1.attn", "dense", (6, 8)),
        ("synthesis.3.attn", "na", (6, 8)),
    ]
    assert [(each.path, each.reason) for each in unseen] == [("synthesis.2.attn", "it calls no attention op")]
    assert isinstance(generator.synthesis[1].attn.attend, BoundOp)
    assert not generator.synthesis[1].attn._forward_hooks
    torch.testing.assert_close(generator.synthesis(ws), expected)
    with pytest.raises(ZeroDivisionError):
        attention_maps(generator, ws, [(0.5, 0.5)], lambda _: 1 / 0)
    assert isinstance(generator.synthesis[1].attn.attend, BoundOp)


def test_tokens_that_are_no_pixels_are_told_of():
    generator = generator_of({"kind": "shifted-window", "num_heads": 2, "window_size": 4, "shift_sizes": [0]})
    generator.synthesis[1].attn.pixels_of_calls = lambda height, width: iter([torch.arange(48)[None]] * 9)
    (unseen,) = attention_maps(generator, generator.mapping(torch.randn(1, 8)), [(0.5, 0.5)], lambda _: None)
    assert "queries and" in unseen.reason


def test_small_windows_are_enlarged():
    found, _ = attended(
        randomised(HydraNA(4, (32, 48), num_heads=2, kernel_sizes=(3,), dilations=(1, 8))),
        torch.randn(1, 32, 48, 4),
        at=[(0.0, 0.0)],
    )
    assert [zoom_of(part, found.resolution) for part in found.partitions] == [4, 1]
    cell = over(Image.new("RGB", (96, 64)), found.weights[0, 0], (0.0, 0.0), 4, 48)
    assert cell.size == (48, 32)
    lit = [max(cell.getpixel(place)) > 0 for place in ((9, 9), (14, 9), (9, 14))]
    assert lit == [True, False, False]  # three by three of twelve by eight pixels, each four wide


@pytest.fixture
def model(tmp_path):
    torch.manual_seed(0)
    save_model(tmp_path / "model.safetensors", randomised(parse(tiny.GENERATOR).build()))
    return tmp_path / "model.safetensors"


def test_a_picture_is_written_for_each_block(model, tmp_path):
    made = attention_map_files(model, 3, tmp_path / "new" / "attention", at=[(0, 15), (8, 2)], size=32)
    assert sorted(path.name for path in (tmp_path / "new" / "attention").iterdir()) == [
        "00-4x4-dense.png",
        "01-8x8-hydra-na.png",
        "overview.png",
    ]
    assert made["queries"] == [[0, 15], [8, 2]]
    dense, hydra = made["blocks"]
    assert [part["label"] for part in hydra["partitions"]] == ["window 3x3, dilation 1", "window 3x3, dilation 2"]
    assert [(part["kernel_size"], part["dilation"]) for part in hydra["partitions"]] == [(3, 1), (3, 2)]
    assert (dense["path"], dense["resolution"]) == ("synthesis.1.attn", [4, 4])
    assert Image.open(hydra["picture"]).height > 4 * 32
    json.dumps(made)


def test_what_cannot_be_pictured_is_told_plainly(model, tmp_path):
    with pytest.raises(UsageError, match="16,3 lies outside the image of 16 x 16 pixels"):
        attention_map_files(model, 0, tmp_path / "attention", at=[(16, 3)])
    with pytest.raises(UsageError, match="is one file"):
        attention_map_files(model, 0, model)
    with pytest.raises(UsageError, match="is one file"):
        attention_map_files(model, 0, tmp_path / "attention.png")
    steps = [{"kind": "constant", "dim": 8}, {"kind": "to-rgb"}]
    save_model(model, parse({"kind": "layered", "z_dim": 8, "synthesis": steps}).build())
    with pytest.raises(UsageError, match="has no attention to picture"):
        attention_map_files(model, 0, tmp_path / "attention")
    assert not (tmp_path / "attention").exists()
