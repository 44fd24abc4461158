"""StyleNAT's upsampler with its sinusoidal positions, and ToRGB."""

from __future__ import annotations

from torch import Tensor
from torch.func import functional_call

from blocks.common.position import SinusoidalGrid
from blocks.image_head.to_rgb import ToRGB
from blocks.layer.upsample_linear import UpsampleLinear
from tests.golden.fixtures import Fixture, adapter


@adapter("stylenat", "SinusoidalPositionalEmbedding")
def sinusoidal_position(fixture: Fixture) -> dict[str, Tensor]:
    args = fixture.config["args"]
    assert args.get("padding_idx", 0) == 0, "positions start at 1"
    grids = {}
    for height, width in fixture.config["grids"]:
        grid = SinusoidalGrid(2 * args["embedding_dim"], (height, width)).to(fixture.dtype)
        grids[f"grid_{height}x{width}"] = grid().permute(2, 0, 1)
    return grids


@adapter("stylenat", "BilinearUpsample")
def upsample(fixture: Fixture) -> dict[str, Tensor]:
    args = fixture.config["args"]
    height, width = args["input_resolution"]
    out_dim = args.get("out_dim") or args["dim"]
    block = UpsampleLinear(args["dim"], (height, width), dim=out_dim).to(fixture.dtype)
    tensors = fixture.tensors
    weights = {
        "norm.weight": tensors["norm.weight"],
        "norm.bias": tensors["norm.bias"],
        "linear.weight": tensors["reduction.weight"],
        "alpha": tensors["alpha"],
    }
    x = fixture.inputs["x"].unflatten(1, (height, width)).permute(0, 3, 1, 2)
    return {"out": functional_call(block, weights | dict(block.named_buffers()), x, strict=True).flatten(2).mT}


@adapter("stylenat", "ToRGB")
def to_rgb(fixture: Fixture) -> dict[str, Tensor]:
    args, tensors = fixture.config["args"], fixture.tensors
    block = ToRGB(args["in_channel"]).to(fixture.dtype)
    weights = {
        "weight": tensors["conv.weight"].flatten(1),
        "bias": tensors["conv.bias"] + tensors["bias"].flatten(),  # StyleNAT has two, one after the other
    }
    x, skip = fixture.inputs["input"], fixture.inputs.get("skip")
    weights |= dict(block.named_buffers())
    ws = x.new_zeros(len(x), 0, 1)
    if skip is not None and args.get("upsample", True):
        assert [2 * size for size in skip.shape[2:]] == list(x.shape[2:])
    return {
        "out": functional_call(block, weights, (x, ws, skip), strict=True),
        "out_noskip": functional_call(block, weights, (x, ws), strict=True),
    }
