"""The phases of StyleGAN2-ADA's training step: losses, R1 and path length penalty, and the gradients of each phase."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from assemblies.conversion.weight_map import translate
from assemblies.models.styleformer import architecture as styleformer
from assemblies.models.styleformer import checkpoint as styleformer_checkpoint
from assemblies.models.stylegan2 import architecture as stylegan2
from assemblies.models.stylegan2 import checkpoint as stylegan2_checkpoint
from blocks.common.noise import noise_mode
from blocks.families import Batch, Networks
from blocks.loss.non_saturating import NonSaturating
from blocks.regularizer.path_length import PathLength
from blocks.regularizer.r1 import R1
from registry import second_order
from tests.golden.adapters.networks import with_prefix
from tests.golden.fixtures import Fixture, Outputs, adapter


class Both(nn.Module):
    """Both networks in one module, so that a phase can be called with the weights of a fixture."""

    def __init__(self, generator: dict[str, Any], discriminator: dict[str, Any]) -> None:
        super().__init__()
        self.generator = styleformer.generator_spec(generator).build()
        context = stylegan2.discriminator_context(discriminator)
        self.discriminator = stylegan2.discriminator_spec(discriminator).build(**context)

    def forward(self, phase: Callable[..., Outputs], *args: Any) -> Outputs:
        return phase(self, *args)


def weights_of_both(fixture: Fixture, networks: Both) -> dict[str, Tensor]:
    """A fixture's weights under our names."""
    generator = translate(
        styleformer_checkpoint.generator_rules(fixture.config["G"]),
        fixture.under("G."),
        networks.generator,
        ignored=styleformer_checkpoint.generator_ignored,
    )
    discriminator = translate(
        stylegan2_checkpoint.discriminator_rules(fixture.config["D"]),
        fixture.under("D."),
        networks.discriminator,
        ignored=stylegan2_checkpoint.is_resample_filter,
    )
    weights = with_prefix(generator, "generator.") | with_prefix(discriminator, "discriminator.")
    for name, buffer in networks.named_buffers():  # filters, and the mean style, which a phase changes in place
        weights[name] = weights.get(name, buffer).detach().clone().to(fixture.dtype)
    return weights


@adapter("styleformer", "Loss")
def loss_phase(fixture: Fixture) -> Outputs:
    config, run = fixture.config, fixture.config["run"]
    assert not config["loss_kwargs"].get("style_mixing_prob"), "the recording would depend on the reference's generator"
    networks = Both(config["G"], config["D"]).train()
    weights = weights_of_both(fixture, networks)
    phases = {"Gmain": generator_main, "Dmain": discriminator_main, "Greg": path_length, "Dreg": r1}
    chosen = [name for name in phases if run["phase"] in (name, f"{name[0]}both")]
    outputs: Outputs = {}
    total = torch.zeros((), dtype=fixture.dtype)
    with noise_mode(run.get("noise_mode")), second_order():
        for name in chosen:
            of_phase = functional_call(networks, weights, (phases[name], fixture))
            total = total + of_phase.pop("total") * run.get("gain", 1)
            outputs |= of_phase
    outputs["w_avg_after"] = weights["generator.mapping.w_avg"]
    wanted = [name.partition("[")[0] for name in fixture.json["gradients"]["wrt"]]
    gradients = torch.autograd.grad(total, [fixture.tensors[name] for name in wanted], allow_unused=True)
    return outputs | {
        f"grad:{name}": torch.zeros_like(fixture.tensors[name]) if value is None else value
        for name, value in zip(wanted, gradients, strict=True)
    }


def condition(fixture: Fixture, kind: str) -> Tensor | None:
    """The condition of "gen" or "real" images; None for unconditional networks."""
    cond_dim = fixture.config["G"].get("c_dim", 0)
    return fixture.condition(cond_dim, f"{kind}_c", f"{kind}_label", "c", "label") if cond_dim else None


def generator_main(networks: Both, fixture: Fixture) -> Outputs:
    c = condition(fixture, "gen")
    logits = networks.discriminator(networks.generator(fixture.inputs["z"], c), c)
    loss = NonSaturating()
    each = torch.stack([loss.generator(logit) for logit in logits])[:, None]
    return {"fake_logits": logits, "loss_Gmain": each, "total": loss.generator(logits)}


def discriminator_main(networks: Both, fixture: Fixture) -> Outputs:
    c, loss = condition(fixture, "gen"), NonSaturating()
    fake = networks.discriminator(networks.generator(fixture.inputs["z"], c).detach(), c)
    real = networks.discriminator(fixture.inputs["real_img"], condition(fixture, "real"))
    each = torch.stack([loss.discriminator(*pair) for pair in zip(real, fake, strict=True)])[:, None]
    return {"fake_logits": fake, "real_logits": real, "loss_D": each, "total": loss.discriminator(real, fake)}


def r1(networks: Both, fixture: Fixture) -> Outputs:
    block = R1(gamma=fixture.config["loss_kwargs"]["r1_gamma"])
    real, c = fixture.inputs["real_img"], condition(fixture, "real")
    penalties = block.penalties(
        Networks(networks.generator, networks.discriminator, nn.Identity()), Batch(real=real, c=c)
    )
    each = penalties * block.gamma.number / 2
    logits = networks.discriminator(real, c)
    return {"real_logits": logits, "r1_penalty": penalties, "loss_Dr1": each, "total": each.mean()}


def path_length(networks: Both, fixture: Fixture) -> Outputs:
    """The reference's mean over style vectors includes vectors that it never uses, whose gradient is zero."""
    options, run, config = fixture.config["loss_kwargs"], fixture.config["run"], fixture.config["G"]
    names = {"pl_weight": "weight", "pl_decay": "decay", "pl_batch_shrink": "batch_shrink"}
    block = PathLength(**{new: options[old] for old, new in names.items() if old in options})
    block = block.to(fixture.dtype)
    block.mean.fill_(run.get("pl_mean", 0.0))
    num, c = len(fixture.inputs["z"]) // block.batch_shrink, condition(fixture, "gen")
    ws = networks.generator.mapping(fixture.inputs["z"][:num], None if c is None else c[:num])
    used, unused = ws.shape[1], len(config["synthesis_kwargs"]["num_layers"]) - 1
    ws = torch.cat([ws, ws[:, -1:].expand(-1, unused, -1)], dim=1)
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
