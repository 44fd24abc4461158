"""ViTGAN's attention by distances: the paper's, the authors' published one, and the re-implementation's."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from blocks.kernels.attention import attention
from blocks.kernels.l2_attention import l2_attention
from tests.golden.recipe import Fixture, adapter

Outputs = dict[str, Tensor]


@adapter("vitgan", "paper_l2")
def paper(fixture: Fixture) -> Outputs:
    config, tensors, x = fixture.config, fixture.tensors, fixture.inputs["x"]
    q, v = (heads(F.linear(x, tensors[name]), config["heads"]) for name in ("wq.weight", "wv.weight"))

    def mixed(values: Tensor) -> Tensor:
        y: Tensor = l2_attention(q, q, values, squared=config["squared"], sign=int(config["sign"]))
        return y

    y = F.linear(joined(mixed(v)), tensors["wo.weight"], tensors["wo.bias"])
    return {"y": y, "attn": mixed(one_of_each(v))}


@adapter("vitgan", "off_attention")
def official(fixture: Fixture) -> Outputs:
    config, temperature, x = fixture.config, fixture.tensors["temperature"], fixture.inputs["x"]
    # a linear map with equalised learning rate, below which the weight is normalised
    linear = {name: normalized(fixture, name, "multiplier", "module.") for name in ("to_qkv", "to_out.0")}
    qkv = F.linear(x, linear["to_qkv"][0] / config["dim"] ** 0.5, linear["to_qkv"][1])
    q, k, v = (heads(part, config["heads"]) for part in qkv.chunk(3, -1))

    def mixed(values: Tensor) -> Tensor:
        if not config["l2_attn"]:
            y: Tensor = attention(q * temperature, k, values)
            return y
        norms = temperature * q.square().mean(-1)  # of the queries, and a mean: so it was published
        y = l2_attention(q * temperature, k, values, sign=1, key_norms=norms)
        return y

    inner = config["heads"] * config["dim_head"]
    y = F.linear(joined(mixed(v)), linear["to_out.0"][0] / inner**0.5, linear["to_out.0"][1])
    return {"y": y, "attn": mixed(one_of_each(v))}


@adapter("vitgan", "re_attention")
def re_implemented(fixture: Fixture) -> Outputs:
    config, x = fixture.config, fixture.inputs["x"]
    linear = {name: normalized(fixture, name, "w_init_sigma", "module.") for name in ("qkv", "projection")}
    qkv = F.linear(x, *linear["qkv"]).unflatten(-1, (config["num_heads"], -1, 3))  # b n heads d qkv
    q, k, v = qkv.permute(4, 0, 2, 1, 3)
    y: Tensor
    if config["discriminator"]:
        y = l2_attention(q, k, v, squared=False, sign=1, scale=1.0)
    else:
        y = attention(q, k, v, scale=1.0)
    return {"y": F.linear(joined(y) / config["emb_size"] ** 0.5, *linear["projection"])}


def normalized(fixture: Fixture, name: str, multiplier: str, inside: str) -> tuple[Tensor, Tensor]:
    """Weight and bias of a linear map; a normalised weight is brought to its spectral norm at the start."""
    tensors = fixture.tensors
    if f"{name}.{inside}weight_bar" not in tensors:
        return tensors[f"{name}.weight"], tensors[f"{name}.bias"]
    weight, bias, u = (tensors[f"{name}.{inside}{part}"] for part in ("weight_bar", "bias", "weight_u"))
    if fixture.config.get("tie_qk") and name == "qkv":
        weight, bias = tied(weight), tied(bias)
    v = weight.mT @ u
    v = v / (v.norm() + 1e-4)
    found = weight @ v
    sigma = found / (found.norm() + 1e-4) @ found
    return fixture.attributes[f"{name}.{multiplier}"] * weight / sigma, bias


def tied(rows: Tensor) -> Tensor:
    """Rows in threes, query, key, value: the key's row is the query's."""
    threes = rows.unflatten(0, (-1, 3))
    return torch.stack([threes[:, 0], threes[:, 0], threes[:, 2]], 1).flatten(0, 1)


def heads(x: Tensor, number: int) -> Tensor:
    return x.unflatten(-1, (number, -1)).transpose(1, 2)


def joined(x: Tensor) -> Tensor:
    return x.transpose(1, 2).flatten(-2)


def one_of_each(v: Tensor) -> Tensor:
    """Values that turn what attention gives into its weights."""
    return torch.eye(v.shape[-2], dtype=v.dtype).expand(*v.shape[:-1], -1)
