"""Styleformer's mapping network, which is StyleGAN2-ADA's, and its ToRGB layer."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.func import functional_call

from blocks.image_head.to_rgb import ToRGB
from blocks.mapping.mapping import MappingNetwork
from tests.golden.fixtures import Fixture, Outputs, adapter


@adapter("styleformer", "MappingNetwork")
def mapping(fixture: Fixture) -> Outputs:
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
        w_avg_beta=options.get("w_avg_beta", 0.995) or 0.0,  # None: no mean is tracked
    ).to(fixture.dtype)
    tensors = {
        name if name.partition(".")[0] in ("w_avg", "embed") else "layers." + name.removeprefix("fc"): value
        for name, value in fixture.tensors.items()
    }
    tensors.setdefault("w_avg", block.w_avg)  # a mapping of labels alone has none
    c = fixture.condition(cond_dim, "c", "label") if cond_dim else None
    batch = len(next(iter(inputs.values())))

    def styles_of(z: str, *, training: bool = False, **options: object) -> Tensor:
        latent = inputs[z] if z in inputs else torch.zeros(batch, 0, dtype=fixture.dtype)
        ws = functional_call(block.train(training), tensors, (latent, c), options, strict=True)
        return ws[:, 0] if num_ws is None else ws

    outputs = {"ws": styles_of("z")}
    for number, truncation in enumerate(run.get("truncation", [])):
        psi, cutoff = truncation.get("psi", 1), truncation.get("cutoff")
        outputs[f"ws_trunc{number}"] = styles_of("z", truncation_psi=psi, truncation_cutoff=cutoff)
    for cutoff in run.get("mix_cutoffs", []):
        outputs[f"ws_mix{cutoff}"] = torch.cat([outputs["ws"][:, :cutoff], styles_of("z2")[:, cutoff:]], dim=1)
    if run.get("train_w_avg"):
        for name, updates in (("w_avg_after", True), ("w_avg_skipped", False)):
            tensors["w_avg"] = fixture.tensors["w_avg"].detach().clone()  # changed in place
            styles_of("z", training=True, update_w_avg=updates)
            outputs[name] = tensors["w_avg"]
    return outputs


@adapter("styleformer", "ToRGBLayer")
def to_rgb(fixture: Fixture) -> Outputs:
    options, tensors = fixture.config["kwargs"], fixture.tensors
    block = ToRGB(options["in_channels"], options["w_dim"], options["out_channels"], modulation="demodulate")
    y = functional_call(block, tensors, (fixture.inputs["x"], fixture.inputs["w"][:, None]))
    return {"y": y}
