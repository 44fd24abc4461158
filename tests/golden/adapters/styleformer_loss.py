"""The phases of StyleGAN2-ADA's training step: losses, R1 and path length, and the gradients that they leave."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from assemblies.conversion.weight_map import translate
from assemblies.models.styleformer import architecture as styleformer
from blocks.common.noise import noise_mode
from blocks.families import Networks
from blocks.loss.non_saturating import NonSaturating
from blocks.regularizer.path_length import PathLength
from blocks.regularizer.r1 import R1
from registry import second_order
from tests.golden.recipe import Fixture, adapter


class Both(nn.Module):
    """Both networks as one, so that a phase can be called with the weights of a fixture."""

    def __init__(self, of_generator: dict[str, Any], of_discriminator: dict[str, Any]) -> None:
        super().__init__()
        self.generator = styleformer.generator_spec(of_generator).build()
        context = styleformer.discriminator_context(of_discriminator)
        self.discriminator = styleformer.discriminator_spec(of_discriminator).build(**context)

    def forward(self, phase: Callable[..., dict[str, Tensor]], *args: Any) -> dict[str, Tensor]:
        return phase(self, *args)


def weights(fixture: Fixture, networks: Both) -> dict[str, Tensor]:
    """A fixture's weights under our names."""
    found = {}
    for part, prefix in (("generator", "G."), ("discriminator", "D.")):
        rules = getattr(styleformer, f"{part}_rules")(fixture.config[prefix[0]])
        ignored = getattr(styleformer, f"{part}_ignored")
        made = translate(rules, fixture.under(prefix), getattr(networks, part), ignored=ignored)
        found |= {f"{part}.{name}": value for name, value in made.items()}
    for name, buffer in networks.named_buffers():  # filters; and the mean style, which a phase moves
        found[name] = (found.get(name, buffer)).detach().clone().to(fixture.dtype)
    return found


@adapter("styleformer", "Loss")
def loss_phase(fixture: Fixture) -> dict[str, Tensor]:
    config, run = fixture.config, fixture.config["run"]
    assert not config["loss_kwargs"].get("style_mixing_prob"), "chance of the reference's own"
    networks = Both(config["G"], config["D"]).train()
    state = weights(fixture, networks)
    phases = {"Gmain": generator_main, "Dmain": discriminator_main, "Greg": path_length, "Dreg": r1}
    wanted = [name for name in phases if run["phase"] in (name, f"{name[0]}both")]
    outputs: dict[str, Tensor] = {}
    total = torch.zeros((), dtype=fixture.dtype)
    with noise_mode(run.get("noise_mode")), second_order():
        for name in wanted:
            found = functional_call(networks, state, (phases[name], fixture))
            total = total + found.pop("total") * run.get("gain", 1)
            outputs |= found
    outputs["w_avg_after"] = state["generator.mapping.w_avg"]
    asked = [name.partition("[")[0] for name in fixture.json["gradients"]["wrt"]]
    gradients = torch.autograd.grad(total, [fixture.tensors[name] for name in asked], allow_unused=True)
    return outputs | {
        f"grad:{name}": torch.zeros_like(fixture.tensors[name]) if value is None else value
        for name, value in zip(asked, gradients, strict=True)
    }


def condition(fixture: Fixture, name: str) -> Tensor | None:
    c = fixture.inputs.get(name, fixture.inputs.get("c"))
    if c is None or c.is_floating_point():
        return c
    return F.one_hot(c, fixture.config["G"]["c_dim"]).to(fixture.dtype)


def generator_main(networks: Both, fixture: Fixture) -> dict[str, Tensor]:
    c = condition(fixture, "gen_c")
    logits = networks.discriminator(networks.generator(fixture.inputs["z"], c), c)
    loss = NonSaturating()
    each = torch.stack([loss.generator(logit) for logit in logits])[:, None]
    return {"fake_logits": logits, "loss_Gmain": each, "total": loss.generator(logits)}


def discriminator_main(networks: Both, fixture: Fixture) -> dict[str, Tensor]:
    c, loss = condition(fixture, "gen_c"), NonSaturating()
    fake = networks.discriminator(networks.generator(fixture.inputs["z"], c).detach(), c)
    real = networks.discriminator(fixture.inputs["real_img"], condition(fixture, "real_c"))
    each = torch.stack([loss.discriminator(*pair) for pair in zip(real, fake, strict=True)])[:, None]
    return {"fake_logits": fake, "real_logits": real, "loss_D": each, "total": loss.discriminator(real, fake)}


def r1(networks: Both, fixture: Fixture) -> dict[str, Tensor]:
    block = R1(gamma=fixture.config["loss_kwargs"]["r1_gamma"])
    real, c = fixture.inputs["real_img"], condition(fixture, "real_c")
    seen = Networks(networks.generator, networks.discriminator, nn.Identity())
    penalties = block.penalties(seen, real, c)
    each = penalties * block.gamma / 2
    logits = networks.discriminator(real, c)
    return {"real_logits": logits, "r1_penalty": penalties, "loss_Dr1": each, "total": each.mean()}


def path_length(networks: Both, fixture: Fixture) -> dict[str, Tensor]:
    """The reference's mean over style vectors counts vectors that it never uses, whose gradient is zero."""
    options, run, config = fixture.config["loss_kwargs"], fixture.config["run"], fixture.config["G"]
    named = {"pl_weight": "weight", "pl_decay": "decay", "pl_batch_shrink": "batch_shrink"}
    block = PathLength(**{ours: options[theirs] for theirs, ours in named.items() if theirs in options})
    block = block.to(fixture.dtype)
    block.mean.fill_(run.get("pl_mean", 0.0))
    num, c = len(fixture.inputs["z"]) // block.batch_shrink, condition(fixture, "gen_c")
    ws = networks.generator.mapping(fixture.inputs["z"][:num], None if c is None else c[:num])
    used, idle = ws.shape[1], len(config["synthesis_kwargs"]["num_layers"]) - 1
    ws = torch.cat([ws, ws[:, -1:].expand(-1, idle, -1)], dim=1)
    lengths = block.lengths(lambda ws: networks.generator.synthesis(ws[:, :used]), ws, fixture.inputs["pl_noise"])
    penalties = block.penalties(lengths)
    each = penalties * block.weight
    return {
        "pl_lengths": lengths,
        "pl_penalty": penalties,
        "loss_Gpl": each,
        "pl_mean_after": block.mean,
        "total": each.mean(),
    }
