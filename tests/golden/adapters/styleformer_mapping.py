"""Styleformer's mapping network, which is StyleGAN2-ADA's, and its readout."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional as F

from blocks.image_head.to_rgb import ToRGB
from blocks.mapping.mapping import MappingNetwork
from tests.golden.recipe import Fixture, adapter


@adapter("styleformer", "MappingNetwork")
def mapping(fixture: Fixture) -> dict[str, Tensor]:
    options, run, inputs = fixture.config["kwargs"], fixture.config.get("run", {}), fixture.inputs
    num_ws, cond_dim = options.get("num_ws"), options.get("c_dim", 0)
    block = MappingNetwork(
        options["z_dim"],
        options["w_dim"],
        1 if num_ws is None else num_ws,
        cond_dim,
        num_layers=options.get("num_layers", 8),
        layer_dim=options.get("layer_features"),
        embed_dim=options.get("embed_features"),
        lr_multiplier=options.get("lr_multiplier", 0.01),
        w_avg_beta=options.get("w_avg_beta", 0.995) or 0.0,  # None where no mean is tracked
    ).to(fixture.dtype)
    tensors = {
        name if name.partition(".")[0] in ("w_avg", "embed") else "layers." + name.removeprefix("fc"): value
        for name, value in fixture.tensors.items()
    }
    tensors.setdefault("w_avg", block.w_avg)  # a mapping of labels alone has none
    c = inputs.get("c")
    if c is not None and not c.is_floating_point():
        c = F.one_hot(c, cond_dim).to(fixture.dtype)

    def ws(z: str, *, training: bool = False, **how: object) -> Tensor:
        latent = inputs.get(z, torch.zeros(len(c) if c is not None else 0, 0, dtype=fixture.dtype))
        given = functional_call(block.train(training), tensors, (latent, c), how, strict=True)
        return given[:, 0] if num_ws is None else given

    outputs = {"ws": ws("z")}
    for number, truncation in enumerate(run.get("truncation", [])):
        how = {"truncation_psi": truncation.get("psi", 1), "truncation_cutoff": truncation.get("cutoff")}
        outputs[f"ws_trunc{number}"] = ws("z", **how)
    for cutoff in run.get("mix_cutoffs", []):
        outputs[f"ws_mix{cutoff}"] = torch.cat([outputs["ws"][:, :cutoff], ws("z2")[:, cutoff:]], dim=1)
    if run.get("train_w_avg"):
        for name, updates in (("w_avg_after", True), ("w_avg_skipped", False)):
            tensors["w_avg"] = fixture.tensors["w_avg"].detach().clone()  # moved in place
            ws("z", training=True, update_w_avg=updates)
            outputs[name] = tensors["w_avg"]
    return outputs


@adapter("styleformer", "ToRGBLayer")
def to_rgb(fixture: Fixture) -> dict[str, Tensor]:
    options, tensors = fixture.config["kwargs"], fixture.tensors
    block = ToRGB(options["in_channels"], options["w_dim"], options["out_channels"], modulation="demodulate")
    y = functional_call(block, tensors, (fixture.inputs["x"], fixture.inputs["w"][:, None]))
    return {"y": y}
