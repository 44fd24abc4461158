"""The losses and penalties of the authors' training step."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from blocks.families import Batch, Networks
from blocks.loss.hinge import Hinge
from blocks.loss.non_saturating import NonSaturating
from blocks.loss.wasserstein import Wasserstein
from blocks.regularizer.balanced_consistency import BalancedConsistency
from blocks.regularizer.gradient_penalty import GradientPenalty
from blocks.regularizer.r1 import R1
from tests.golden.adapters.vitgan.augment import augment_officially, official_augment
from tests.golden.adapters.vitgan.discriminator import OfficialDiscriminator
from tests.golden.fixtures import Fixture, Outputs, adapter, without_prefix

LOSSES = {"nonsat": NonSaturating, "hinge": Hinge, "wgan": Wasserstein}


@adapter("vitgan", "off_dloss")
def losses(fixture: Fixture) -> Outputs:
    """The reference judges [real; fake] in one batch, so the groups of its minibatch stddev mix both."""
    config = fixture.config
    real, fake = fixture.inputs["real"], fixture.inputs["fake"]
    discriminator, loss = OfficialDiscriminator(config["arch"], fixture.tensors), LOSSES[config["loss"]]()
    sizes = [len(real), len(fake)]

    def augment(which: int, image: Tensor) -> Tensor:
        return augment_officially(config["policy"], image, without_prefix(fixture.inputs, f"aug{which}."))

    logits = discriminator(augment(0, torch.cat([real, fake])))
    real_logits, fake_logits = torch.split(logits, sizes)
    outputs = {
        "d_loss": loss.discriminator(real_logits, fake_logits),
        "g_loss": loss.generator(discriminator(augment(2, fake))),
        "d_real_mean": real_logits.mean(),
        "d_gen_mean": fake_logits.mean(),
        "logits": logits,
    }
    networks = Networks(
        nn.Identity(),
        lambda image, c: discriminator(image)[: len(real)],
        lambda image: augment(0, torch.cat([image, fake])),
    )
    r1 = R1(gamma=1.0)(networks, Batch(real=real)) if config["lbd_r1"] else real.new_zeros(())
    outputs["r1"] = 2 * r1  # the reference records the penalty without the factor 1/2
    penalty = config["lbd_r1"] * r1
    if config["penalty"] == "bcr":
        second_real, second_fake = torch.split(discriminator(augment(1, torch.cat([real, fake]))), sizes)
        outputs["bcr_real"] = consistency(config["policy"], real, real_logits, second_real)
        outputs["bcr_gen"] = consistency(config["policy"], fake, fake_logits, second_fake)
        penalty = penalty + config["lbd"] * outputs["bcr_real"] + config["lbd2"] * outputs["bcr_gen"]
    elif config["penalty"] == "cr":
        outputs["cr"] = consistency(config["policy"], real, real_logits, discriminator(augment(1, real)))
        penalty = penalty + config["lbd"] * outputs["cr"]
    elif config["penalty"] == "gp":
        outputs["gp"] = gradient_penalty(fixture, discriminator)
        penalty = penalty + config["lbd"] * outputs["gp"]
    return outputs | {"penalty": penalty, "total": outputs["d_loss"] + penalty}


def consistency(policy: str, image: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """The consistency of two augmented views of images; their logits are those of the whole batch."""
    block = BalancedConsistency(
        lambda_real=1.0, lambda_fake=0.0, view="two-views", augment=official_augment(policy).spec
    )
    networks = Networks(nn.Identity(), lambda image, c: second, block.augment)
    return block(networks, Batch(real=image, real_logits=first))


def gradient_penalty(fixture: Fixture, discriminator: OfficialDiscriminator) -> Tensor:
    """The gradient penalty at the recorded points between real and generated images."""
    (name,) = (name for name in fixture.inputs if name not in ("real", "fake") and not name.startswith("aug"))
    share, real, fake = fixture.inputs[name].view(-1, 1, 1, 1), fixture.inputs["real"], fixture.inputs["fake"]
    networks = Networks(nn.Identity(), discriminator, nn.Identity())
    return GradientPenalty(weight=1.0).penalty(networks, share * real + (1 - share) * fake, None)
