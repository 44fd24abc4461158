"""How the blocks of each family are tried: in which places, with which inputs, and what must come back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

ContextValues = Mapping[str, Any]
Inputs = dict[str, Tensor | None]
Shape = tuple[Any, ...]

BATCH = 2
STANDARD: ContextValues = {"dim": 16, "resolution": (8, 8), "style_dim": 12, "image_channels": 3}
ODD: ContextValues = {"resolution": (5, 7)}
STYLELESS: ContextValues = {"style_dim": None}


def _call(block: nn.Module, **inputs: Tensor | None) -> Any:
    return block(*inputs.values())


@dataclass(frozen=True)
class Harness:
    """How to try the blocks of one family.

    Args:
        inputs: From block and place, the tensors of a call by name.
        shapes: From block, place and inputs, the shape of each output; None is any size, a last Ellipsis any more axes.
        places: Wirings by name, beside the standard one. In the first a block has to fit, in the others it may refuse.
            A value that is a function is called when a block is built. `in_dim` is `dim`, unless told otherwise.
        call: Block and inputs to outputs, where that is more than passing the inputs in order.
        traceable: Whether torch.compile must take a call as one graph.
        smooth: Whether a call must have second derivatives.
    """

    inputs: Callable[[Any, ContextValues], Inputs]
    shapes: Callable[[Any, ContextValues, Inputs], tuple[Shape, ...]]
    contexts: Mapping[str, ContextValues]
    call: Callable[..., Any] = _call
    traceable: bool = True
    smooth: bool = True


MAPS: Mapping[str, ContextValues] = {"standard": {}, "odd": ODD}
CONDITIONS: Mapping[str, ContextValues] = {"plain": {"cond_dim": 0}, "conditional": {"cond_dim": 5}}


def made(value: Any) -> Any:
    """A value of a place, on the device that is the default now."""
    if isinstance(value, Tensor):
        return value.to(torch.get_default_device())
    return value() if callable(value) else value


def _pixels(context: ContextValues) -> Tensor:
    return torch.randn(BATCH, *context["resolution"], context["in_dim"])


def _features(context: ContextValues) -> Tensor:
    return _pixels(context).permute(0, 3, 1, 2)


def _styles(block: Any, context: ContextValues) -> Tensor | None:
    return None if context["style_dim"] is None else torch.randn(BATCH, block.num_styles, context["style_dim"])


def _style(block: Any, context: ContextValues) -> Tensor | None:
    return torch.randn(BATCH, context["style_dim"]) if block.num_styles else None


def _condition(context: ContextValues) -> Tensor | None:
    return torch.randn(BATCH, context["cond_dim"]) if context["cond_dim"] else None


def _halved(resolution: tuple[int, int]) -> tuple[int, int]:
    return resolution[0] // 2, resolution[1] // 2


def _image(context: ContextValues, resolution: str = "resolution") -> Tensor:
    return torch.rand(BATCH, context["image_channels"], *context[resolution]) * 2 - 1


def _same_as(name: str) -> Callable[[Any, ContextValues, Inputs], tuple[Shape, ...]]:
    return lambda block, context, inputs: (tuple(inputs[name].shape),)  # type: ignore[union-attr]


def _logits(*shape: int) -> Tensor:
    return torch.randn(BATCH, *shape)


def _tell(block: Any) -> Any:
    """The inputs of a call are floating-point numbers, what is told are words: so these are made here."""
    device = next((each.device for each in (*block.parameters(), *block.buffers())), None)
    said = {"classes": [0, 1], "captions": ["a bird", "two birds on a wire"]}[block.condition_input]
    return block(block.read(said).to(device))


def _both_losses(block: Any, real: Tensor, fake: Tensor) -> Any:
    return block.generator(fake), block.discriminator(real, fake)


def _penalty(block: Any, real: Tensor, fake: Tensor, z: Tensor, c: Tensor, to_logit: Tensor, to_image: Tensor) -> Any:
    """A regularizer on networks of one matrix each; these are inputs, so that gradients towards them are seen."""

    def discriminator(image: Tensor, c: Tensor | None = None) -> Tensor:
        return (image.flatten(1) @ to_logit).tanh().sum(dim=1)

    def synthesis(ws: Tensor) -> Tensor:
        return (ws.flatten(1) @ to_image).tanh().view(-1, *fake.shape[1:])

    generator = SimpleNamespace(mapping=lambda z, c=None: z[:, None], synthesis=synthesis)
    networks = SimpleNamespace(
        generator=generator,
        discriminator=discriminator,
        augment=lambda image: image.flip(3),
        value_range="symmetric",
    )
    logits = {"real_logits": discriminator(real), "fake_logits": discriminator(fake)}
    return block(networks, SimpleNamespace(real=real, fake=fake, z=z, c=c, **logits))


def _generate_and_judge(gan: Any, z: Tensor, c: Tensor | None) -> Any:
    image = gan.generator(z, c)
    return image, gan.discriminator(image, c)


def _latents(generator: Any, trace_step: ContextValues) -> Inputs:
    return {"z": torch.randn(BATCH, generator.z_dim), "c": _condition({"cond_dim": generator.cond_dim})}


def _size(generator: Any) -> Shape:
    return BATCH, generator.image_channels, *generator.resolution


HARNESSES: dict[str, Harness] = {
    "attention": Harness(
        inputs=lambda block, context: {"x": _pixels(context)},
        shapes=_same_as("x"),
        contexts=MAPS,
    ),
    "norm": Harness(
        inputs=lambda block, context: {"x": _pixels(context), "w": _style(block, context)},
        shapes=_same_as("x"),
        contexts=MAPS,
    ),
    "feed-forward": Harness(
        inputs=lambda block, context: {"x": _pixels(context)},
        shapes=_same_as("x"),
        contexts=MAPS,
    ),
    "condition": Harness(
        inputs=lambda block, context: {},
        shapes=lambda block, context, inputs: ((BATCH, block.cond_dim),),
        contexts={"told": {}},
        call=_tell,
        traceable=False,  # `read` works on strings
        smooth=False,
    ),
    "mapping": Harness(
        inputs=lambda block, context: {"z": torch.randn(BATCH, context["z_dim"]), "c": _condition(context)},
        shapes=lambda block, context, inputs: ((BATCH, context["num_styles"], context["style_dim"]),),
        contexts={name: {"z_dim": 8, "num_styles": 3, **context} for name, context in CONDITIONS.items()},
    ),
    "synthesis-input": Harness(
        inputs=lambda block, context: {"ws": _styles(block, context)},
        shapes=lambda block, context, inputs: ((BATCH, None, None, None),),
        contexts={"styled": {}},
    ),
    "layer": Harness(
        inputs=lambda block, context: {"x": _features(context), "ws": _styles(block, context)},
        shapes=lambda block, context, inputs: ((BATCH, None, None, None),),
        contexts={"standard": {}, "odd": ODD, "styleless": STYLELESS},
    ),
    "image-head": Harness(
        inputs=lambda block, context: {
            "x": _features(context),
            "ws": _styles(block, context),
            "image": _image(context, "so_far") if "so_far" in context else None,
        },
        shapes=lambda block, context, inputs: ((BATCH, context["image_channels"], None, None),),
        contexts={"first": {}, "same-size": {"so_far": (8, 8)}, "half-size": {"so_far": (4, 4)}, "odd": ODD},
    ),
    "stem": Harness(
        inputs=lambda block, context: {
            "x": None
            if context["in_dim"] is None
            else _features({**context, "resolution": _halved(context["resolution"])}),
            "image": _image(context),
        },
        shapes=lambda block, context, inputs: (
            (BATCH, None, None, None),
            (BATCH, context["image_channels"], None, None),
        ),
        contexts={"first": {"dim": None}, "later": {}, "odd": {"dim": None, **ODD}},
    ),
    "head": Harness(
        inputs=lambda block, context: {"x": _features(context), "c": _condition(context)},
        shapes=lambda block, context, inputs: ((BATCH, ...),),
        contexts={
            "plain": CONDITIONS["plain"],
            "odd": {"cond_dim": 0, **ODD},
            "conditional": CONDITIONS["conditional"],
        },
    ),
    "backbone": Harness(
        inputs=lambda block, context: {"image": _image(context)},
        shapes=lambda block, context, inputs: ((BATCH, None, None),) * len(block(inputs["image"])),
        contexts={"standard": {}, "odd": ODD, "grey": {"image_channels": 1}},
    ),
    "weight-norm": Harness(
        inputs=lambda block, context: {"weight": made(context["weight"])},
        shapes=_same_as("weight"),
        contexts={
            "linear": {"weight": lambda: torch.randn(6, 8)},
            "convolution": {"weight": lambda: torch.randn(6, 4, 3, 3)},
        },
        smooth=False,  # a penalty needs one derivative of it, the other is towards the image
    ),
    "augment": Harness(
        inputs=lambda block, context: {"image": _image(context)},
        shapes=_same_as("image"),
        contexts=MAPS,
    ),
    "loss": Harness(
        inputs=lambda block, context: {"real": _logits(*context["logits"]), "fake": _logits(*context["logits"])},
        shapes=lambda block, context, inputs: ((), ()),
        contexts={"scalar": {"logits": ()}, "patches": {"logits": (1, 3, 3)}},
        call=_both_losses,
    ),
    "regularizer": Harness(
        inputs=lambda block, context: {
            "real": _image(context),
            "fake": _image(context),
            "z": torch.randn(BATCH, 8),
            "c": _condition(context),
            "to_logit": torch.randn(3 * 8 * 8, 4) / 8,
            "to_image": torch.randn(8, 3 * 8 * 8),
        },
        shapes=lambda block, context, inputs: ((),),
        contexts={"toy-networks": {"cond_dim": 6}},
        call=_penalty,
        traceable=False,  # a penalty differentiates inside the call
        smooth=False,
    ),
    "generator": Harness(
        inputs=_latents,
        shapes=lambda block, context, inputs: (_size(block),),
        contexts={"whole": {}},
    ),
    "discriminator": Harness(
        inputs=lambda block, context: {"image": _image(context), "c": _condition(context)},
        shapes=lambda block, context, inputs: ((BATCH, ...),),
        contexts={
            "plain": CONDITIONS["plain"],
            "odd": {"cond_dim": 0, **ODD},
            "conditional": CONDITIONS["conditional"],
        },
    ),
    "multi-stage": Harness(
        inputs=lambda block, context: _latents(block.gans[0].generator, context),
        shapes=lambda block, context, inputs: tuple(
            shape for gan in block.gans for shape in (_size(gan.generator), (BATCH, ...))
        ),
        contexts={"whole": {}},
        call=lambda block, z, c: tuple(each for gan in block.gans for each in _generate_and_judge(gan, z, c)),
        traceable=False,
    ),
    "gan": Harness(
        inputs=lambda block, context: _latents(block.generator, context),
        shapes=lambda block, context, inputs: (_size(block.generator), (BATCH, ...)),
        contexts={"whole": {}},
        call=_generate_and_judge,
        traceable=False,  # its networks are compiled each by itself
    ),
}
