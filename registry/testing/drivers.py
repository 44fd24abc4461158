"""How the blocks of each family are tried: in which places, with which inputs, and what must come back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

Place = Mapping[str, Any]
Inputs = dict[str, Tensor | None]
Shape = tuple[Any, ...]

BATCH = 2
STANDARD: Place = {"dim": 16, "resolution": (8, 8), "style_dim": 12, "image_channels": 3}
ODD: Place = {"resolution": (5, 7)}
STYLELESS: Place = {"style_dim": None}


def _call(block: nn.Module, **inputs: Tensor | None) -> Any:
    return block(*inputs.values())


@dataclass(frozen=True)
class Driver:
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

    inputs: Callable[[Any, Place], Inputs]
    shapes: Callable[[Any, Place, Inputs], tuple[Shape, ...]]
    places: Mapping[str, Place]
    call: Callable[..., Any] = _call
    traceable: bool = True
    smooth: bool = True


MAPS: Mapping[str, Place] = {"standard": {}, "odd": ODD}
CONDITIONS: Mapping[str, Place] = {"plain": {"cond_dim": 0}, "conditional": {"cond_dim": 5}}


def made(value: Any) -> Any:
    """A value of a place, on the device that is the default now."""
    if isinstance(value, Tensor):
        return value.to(torch.get_default_device())
    return value() if callable(value) else value


def _pixels(place: Place) -> Tensor:
    return torch.randn(BATCH, *place["resolution"], place["in_dim"])


def _features(place: Place) -> Tensor:
    return _pixels(place).permute(0, 3, 1, 2)


def _styles(block: Any, place: Place) -> Tensor | None:
    return None if place["style_dim"] is None else torch.randn(BATCH, block.num_styles, place["style_dim"])


def _style(block: Any, place: Place) -> Tensor | None:
    return torch.randn(BATCH, place["style_dim"]) if block.num_styles else None


def _condition(place: Place) -> Tensor | None:
    return torch.randn(BATCH, place["cond_dim"]) if place["cond_dim"] else None


def _halved(resolution: tuple[int, int]) -> tuple[int, int]:
    return resolution[0] // 2, resolution[1] // 2


def _image(place: Place, resolution: str = "resolution") -> Tensor:
    return torch.rand(BATCH, place["image_channels"], *place[resolution]) * 2 - 1


def _same_as(name: str) -> Callable[[Any, Place, Inputs], tuple[Shape, ...]]:
    return lambda block, place, inputs: (tuple(inputs[name].shape),)  # type: ignore[union-attr]


def _logits(*shape: int) -> Tensor:
    return torch.randn(BATCH, *shape)


def _tell(block: Any) -> Any:
    """The inputs of a call are floating-point numbers, what is told are words: so these are made here."""
    device = next((each.device for each in (*block.parameters(), *block.buffers())), None)
    said = {"classes": [0, 1], "captions": ["a bird", "two birds on a wire"]}[block.takes]
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


def _latents(generator: Any, _place: Place) -> Inputs:
    return {"z": torch.randn(BATCH, generator.z_dim), "c": _condition({"cond_dim": generator.cond_dim})}


def _size(generator: Any) -> Shape:
    return BATCH, generator.image_channels, *generator.resolution


DRIVERS: dict[str, Driver] = {
    "attention": Driver(
        inputs=lambda block, place: {"x": _pixels(place)},
        shapes=_same_as("x"),
        places=MAPS,
    ),
    "norm": Driver(
        inputs=lambda block, place: {"x": _pixels(place), "w": _style(block, place)},
        shapes=_same_as("x"),
        places=MAPS,
    ),
    "feed-forward": Driver(
        inputs=lambda block, place: {"x": _pixels(place)},
        shapes=_same_as("x"),
        places=MAPS,
    ),
    "condition": Driver(
        inputs=lambda block, place: {},
        shapes=lambda block, place, inputs: ((BATCH, block.cond_dim),),
        places={"told": {}},
        call=_tell,
        traceable=False,  # `read` works on strings
        smooth=False,
    ),
    "mapping": Driver(
        inputs=lambda block, place: {"z": torch.randn(BATCH, place["z_dim"]), "c": _condition(place)},
        shapes=lambda block, place, inputs: ((BATCH, place["num_styles"], place["style_dim"]),),
        places={name: {"z_dim": 8, "num_styles": 3, **place} for name, place in CONDITIONS.items()},
    ),
    "source": Driver(
        inputs=lambda block, place: {"ws": _styles(block, place)},
        shapes=lambda block, place, inputs: ((BATCH, None, None, None),),
        places={"styled": {}},
    ),
    "layer": Driver(
        inputs=lambda block, place: {"x": _features(place), "ws": _styles(block, place)},
        shapes=lambda block, place, inputs: ((BATCH, None, None, None),),
        places={"standard": {}, "odd": ODD, "styleless": STYLELESS},
    ),
    "readout": Driver(
        inputs=lambda block, place: {
            "x": _features(place),
            "ws": _styles(block, place),
            "image": _image(place, "so_far") if "so_far" in place else None,
        },
        shapes=lambda block, place, inputs: ((BATCH, place["image_channels"], None, None),),
        places={"first": {}, "same-size": {"so_far": (8, 8)}, "half-size": {"so_far": (4, 4)}, "odd": ODD},
    ),
    "intake": Driver(
        inputs=lambda block, place: {
            "x": None if place["in_dim"] is None else _features({**place, "resolution": _halved(place["resolution"])}),
            "image": _image(place),
        },
        shapes=lambda block, place, inputs: (
            (BATCH, None, None, None),
            (BATCH, place["image_channels"], None, None),
        ),
        places={"first": {"dim": None}, "later": {}, "odd": {"dim": None, **ODD}},
    ),
    "head": Driver(
        inputs=lambda block, place: {"x": _features(place), "c": _condition(place)},
        shapes=lambda block, place, inputs: ((BATCH, ...),),
        places={"plain": CONDITIONS["plain"], "odd": {"cond_dim": 0, **ODD}, "conditional": CONDITIONS["conditional"]},
    ),
    "feature-network": Driver(
        inputs=lambda block, place: {"image": _image(place)},
        shapes=lambda block, place, inputs: ((BATCH, None, None),) * len(block(inputs["image"])),
        places={"standard": {}, "odd": ODD, "grey": {"image_channels": 1}},
    ),
    "weight-norm": Driver(
        inputs=lambda block, place: {"weight": made(place["weight"])},
        shapes=_same_as("weight"),
        places={
            "linear": {"weight": lambda: torch.randn(6, 8)},
            "convolution": {"weight": lambda: torch.randn(6, 4, 3, 3)},
        },
        smooth=False,  # a penalty needs one derivative of it, the other is towards the image
    ),
    "augment": Driver(
        inputs=lambda block, place: {"image": _image(place)},
        shapes=_same_as("image"),
        places=MAPS,
    ),
    "loss": Driver(
        inputs=lambda block, place: {"real": _logits(*place["logits"]), "fake": _logits(*place["logits"])},
        shapes=lambda block, place, inputs: ((), ()),
        places={"scalar": {"logits": ()}, "patches": {"logits": (1, 3, 3)}},
        call=_both_losses,
    ),
    "regularizer": Driver(
        inputs=lambda block, place: {
            "real": _image(place),
            "fake": _image(place),
            "z": torch.randn(BATCH, 8),
            "c": _condition(place),
            "to_logit": torch.randn(3 * 8 * 8, 4) / 8,
            "to_image": torch.randn(8, 3 * 8 * 8),
        },
        shapes=lambda block, place, inputs: ((),),
        places={"toy-networks": {"cond_dim": 6}},
        call=_penalty,
        traceable=False,  # a penalty differentiates inside the call
        smooth=False,
    ),
    "generator": Driver(
        inputs=_latents,
        shapes=lambda block, place, inputs: (_size(block),),
        places={"whole": {}},
    ),
    "discriminator": Driver(
        inputs=lambda block, place: {"image": _image(place), "c": _condition(place)},
        shapes=lambda block, place, inputs: ((BATCH, ...),),
        places={"plain": CONDITIONS["plain"], "odd": {"cond_dim": 0, **ODD}, "conditional": CONDITIONS["conditional"]},
    ),
    "recipe": Driver(
        inputs=lambda block, place: _latents(block.gans[0].generator, place),
        shapes=lambda block, place, inputs: tuple(
            shape for gan in block.gans for shape in (_size(gan.generator), (BATCH, ...))
        ),
        places={"whole": {}},
        call=lambda block, z, c: tuple(each for gan in block.gans for each in _generate_and_judge(gan, z, c)),
        traceable=False,
    ),
    "gan": Driver(
        inputs=lambda block, place: _latents(block.generator, place),
        shapes=lambda block, place, inputs: (_size(block.generator), (BATCH, ...)),
        places={"whole": {}},
        call=_generate_and_judge,
        traceable=False,  # its networks are compiled each by itself
    ),
}
