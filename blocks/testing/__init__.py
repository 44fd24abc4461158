"""How the conformance suite calls the blocks of each family: contexts, inputs and expected shapes.

`registry.testing` finds the harnesses here, and the calls of ops.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from blocks.common.computed_buffer import reset_buffers
from blocks.ops.calls import CALLS as CALLS
from blocks.testing.training import (
    both_losses,
    declares_second_derivatives,
    is_the_identity_in_eval_mode,
    penalty,
)
from registry.testing.cases import Case
from registry.testing.harness import ContextValues, Harness, Inputs, Shape

BATCH = 2
STANDARD: ContextValues = {
    "dim": 16,
    "in_dim": lambda context: context["dim"],  # requested by blocks of which `dim` is an option
    "resolution": (8, 8),
    "style_dim": 12,
    "image_channels": 3,
}


def contexts(**changes: ContextValues) -> Mapping[str, ContextValues]:
    """Contexts by name: the standard one with these changes."""
    return {name.replace("_", "-"): {**STANDARD, **change} for name, change in changes.items()}


ODD: ContextValues = {"resolution": (5, 7)}
UNCONDITIONAL: ContextValues = {"cond_dim": 0}
CONDITIONAL: ContextValues = {"cond_dim": 5}
MAPS = contexts(standard={}, odd=ODD)
JUDGED = contexts(plain=UNCONDITIONAL, odd={**UNCONDITIONAL, **ODD}, conditional=CONDITIONAL)


def features(context: ContextValues) -> Tensor:
    """A feature map [B,C,H,W] in channels-last memory."""
    return features_last(context).permute(0, 3, 1, 2)


def features_last(context: ContextValues) -> Tensor:
    """A feature map [B,H,W,C]."""
    return torch.randn(BATCH, *context["resolution"], context["in_dim"])


def image(context: ContextValues, resolution: str = "resolution") -> Tensor:
    """Images [B,K,H,W] in [-1,1]."""
    return torch.rand(BATCH, context["image_channels"], *context[resolution]) * 2 - 1


def condition(context: ContextValues) -> Tensor | None:
    """Conditions [B,D], if the context has any."""
    return torch.randn(BATCH, context["cond_dim"]) if context["cond_dim"] else None


def styles(block: Any, context: ContextValues) -> Tensor | None:
    """As many style vectors or tokens as the block uses [B,n,S]; None where there are no styles."""
    number = 3 if getattr(block, "takes_tokens", False) else block.num_styles
    return None if context["style_dim"] is None else torch.randn(BATCH, number, context["style_dim"])


def style(block: Any, context: ContextValues) -> Tensor | None:
    """The style vector [B,S] of a norm that uses one."""
    return torch.randn(BATCH, context["style_dim"]) if block.num_styles else None


def logits(context: ContextValues) -> Tensor:
    """Logits [B,...]."""
    return torch.randn(BATCH, *context["logits"])


def same_as(name: str) -> Callable[[Any, ContextValues, Inputs], tuple[Shape, ...]]:
    """The output has the shape of the input `name`."""
    return lambda block, context, inputs: (tuple(inputs[name].shape),)  # type: ignore[union-attr]


def encode(block: Any) -> Any:
    """Encode two labels or captions, which are not tensors and so are not inputs of the call."""
    device = next((each.device for each in (*block.parameters(), *block.buffers())), None)
    labels = {"classes": [0, 1], "captions": ["a bird", "two birds on a wire"]}[block.condition_input]
    return block(block.read(labels).to(device))


def takes_no_labels(case: Case) -> None:
    """A condition of no labels has batch 0."""
    block: Any = case.build().block
    assert block(block.read([]).to(case.device)).shape == (0, block.cond_dim)


FAMILIES: dict[str, Harness] = {
    "attention": Harness(
        inputs=lambda block, context: {"x": features_last(context)},
        shapes=same_as("x"),
        features={"x": 3},
        contexts=MAPS,
    ),
    "norm": Harness(
        inputs=lambda block, context: {"x": features_last(context), "w": style(block, context)},
        shapes=same_as("x"),
        features={"x": 3, "w": 1},
        needed=("w",),
        contexts=MAPS,
    ),
    "feed-forward": Harness(
        inputs=lambda block, context: {"x": features_last(context)},
        shapes=same_as("x"),
        features={"x": 3},
        contexts=MAPS,
    ),
    "condition": Harness(
        inputs=lambda block, context: {},
        shapes=lambda block, context, inputs: ((BATCH, block.cond_dim),),
        contexts=contexts(labels={}),
        call=encode,
        checks=(takes_no_labels,),
        batched=False,
        traceable=False,  # `read` takes strings
        smooth=False,
    ),
    "mapping": Harness(
        inputs=lambda block, context: {"z": torch.randn(BATCH, context["z_dim"]), "c": condition(context)},
        shapes=lambda block, context, inputs: ((BATCH, context["num_styles"], context["style_dim"]),),
        features={"z": 1, "c": 1},
        needed=("c",),
        contexts=contexts(
            plain={"z_dim": 8, "num_styles": 3, **UNCONDITIONAL},
            conditional={"z_dim": 8, "num_styles": 3, **CONDITIONAL},
        ),
    ),
    "synthesis-input": Harness(
        inputs=lambda block, context: {"ws": styles(block, context)},
        shapes=lambda block, context, inputs: ((BATCH, None, None, None),),
        features={"ws": 2},
        contexts=contexts(styled={}),
    ),
    "layer": Harness(
        inputs=lambda block, context: {"x": features(context), "ws": styles(block, context)},
        shapes=lambda block, context, inputs: ((BATCH, None, None, None),),
        features={"x": 1, "ws": 2},
        needed=("ws",),
        contexts=contexts(standard={}, odd=ODD, styleless={"style_dim": None}),
    ),
    "image-head": Harness(
        inputs=lambda block, context: {
            "x": features(context),
            "ws": styles(block, context),
            "image": image(context, "image_resolution") if "image_resolution" in context else None,
        },
        shapes=lambda block, context, inputs: ((BATCH, context["image_channels"], None, None),),
        features={"x": 1, "ws": 2, "image": 1},
        needed=("ws",),
        contexts=contexts(
            first={}, same_size={"image_resolution": (8, 8)}, half_size={"image_resolution": (4, 4)}, odd=ODD
        ),
    ),
    "stem": Harness(
        inputs=lambda block, context: {
            "x": None
            if context["in_dim"] is None
            else features({**context, "resolution": tuple(side // 2 for side in context["resolution"])}),
            "image": image(context),
        },
        shapes=lambda block, context, inputs: (
            (BATCH, None, None, None),
            (BATCH, context["image_channels"], None, None),
        ),
        features={"x": 1, "image": 1},
        contexts=contexts(first={"dim": None}, later={}, odd={"dim": None, **ODD}),
    ),
    "head": Harness(
        inputs=lambda block, context: {"x": features(context), "c": condition(context)},
        shapes=lambda block, context, inputs: ((BATCH, ...),),
        features={"x": 1, "c": 1},
        needed=("c",),
        contexts=JUDGED,
    ),
    "projector": Harness(
        inputs=lambda block, context: {"x": features(context)},
        shapes=lambda block, context, inputs: ((BATCH, None, None),),
        contexts=contexts(row={"resolution": (1, 5)}, map={}),
        features={"x": 1},
    ),
    "backbone": Harness(
        inputs=lambda block, context: {"image": image(context)},
        shapes=lambda block, context, inputs: ((BATCH, None, None),) * len(block(inputs["image"])),
        features={"image": 1},
        contexts=contexts(standard={}, odd=ODD, grey={"image_channels": 1}),
    ),
    "autoencoder": Harness(
        inputs=lambda block, context: {
            "latents": torch.randn(BATCH, block.latent_channels, *context["resolution"]),
            "image": image({"image_channels": block.image_channels, "resolution": (4 * block.downsampling,) * 2}),
        },
        shapes=lambda block, context, inputs: ((BATCH, None, None, None), (BATCH, 2 * block.latent_channels, 4, 4)),
        contexts=contexts(square={"resolution": (2, 2)}, odd={"resolution": (3, 2)}),
        features={"latents": 1},
        call=lambda block, latents, image: (block(latents), block.moments(image)),
    ),
    "weight-norm": Harness(
        inputs=lambda block, context: {"weight": context["weight"]},
        shapes=same_as("weight"),
        contexts=contexts(
            linear={"weight": lambda context: torch.randn(6, 8)},
            convolution={"weight": lambda context: torch.randn(6, 4, 3, 3)},
        ),
        batched=False,
        smooth=False,  # a penalty differentiates the weight once; its other derivative is that of the image
    ),
    "augment": Harness(
        inputs=lambda block, context: {"image": image(context)},
        shapes=same_as("image"),
        features={"image": 1},
        contexts=MAPS,
        checks=(is_the_identity_in_eval_mode,),
    ),
    "loss": Harness(
        inputs=lambda block, context: {"real": logits(context), "fake": logits(context)},
        shapes=lambda block, context, inputs: ((), ()),
        contexts=contexts(scalar={"logits": ()}, patches={"logits": (1, 3, 3)}),
        call=both_losses,
        batched=False,
    ),
    "regularizer": Harness(
        inputs=lambda block, context: {
            "real": image(context),
            "fake": image(context),
            "z": torch.randn(BATCH, 8),
            "c": condition(context),
            "to_logit": torch.randn(3 * 8 * 8, 4) / 8,
            "to_image": torch.randn(8, 3 * 8 * 8),
        },
        shapes=lambda block, context, inputs: ((),),
        contexts=contexts(toy_networks={"cond_dim": 6}),
        checks=(declares_second_derivatives,),
        call=penalty,
        batched=False,
        traceable=False,  # a penalty differentiates inside the call
        smooth=False,
    ),
    "schedule": Harness(
        inputs=lambda block, context: {"images": 2000 * torch.rand(BATCH), "number": torch.randn(BATCH)},
        shapes=same_as("number"),
        contexts=contexts(option={}),
        call=lambda block, images, number: number * block(images),
        smooth=False,
    ),
    "feature-extractor": Harness(
        inputs=lambda block, context: {"images": 127.5 * (image(context) + 1)},
        shapes=lambda block, context, inputs: ((BATCH, None),),
        contexts=contexts(standard={}, odd=ODD),
        batched=False,  # networks of libraries, which differ in what they can
        traceable=False,
        smooth=False,
    ),
    "metric": Harness(
        inputs=lambda block, context: {},
        shapes=lambda block, context, inputs: (),
        contexts=contexts(standard={}),
        traceable=False,
        computes=False,  # numbers from whole sets of images
    ),
}
HARNESSES = {family: replace(harness, reset_buffers=reset_buffers) for family, harness in FAMILIES.items()}
