"""A generator as a list of steps: a synthesis input, layers and image heads, which pass on features and an image.

The style-based design (mapping, styles, truncation): StyleGAN, Karras et al. 2019, https://arxiv.org/abs/1812.04948.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Self, cast

import torch
from jaxtyping import Float
from pydantic import Field, NonNegativeInt, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from assemblies.condition import condition_input, condition_size, resolve_cond_dim
from assemblies.inference import Inference, Precision, optimized
from assemblies.limits import MAX_STEPS, check_memory
from assemblies.synthesis import (
    OUTPUTS,
    OutputActivation,
    Synthesis,
    ValueRange,
    image_problems,
    schedule,
    trace_synthesis,
)
from assemblies.trace import Step, Trace, build_on_meta, count_parameters
from blocks.common.noise import NoiseMode
from blocks.common.noise import noise_mode as chosen_noise
from blocks.families import Autoencoder, Condition, ImageHead, Layer, Mapping, SynthesisInput
from registry import Block, IncompatibleError, Problem, Slot, Spec, collecting, incompatible


class Generator(Block, nn.Module, family="generator"):
    """Generates images from latents: z [B,z_dim], c [B,cond_dim] or None -> image [B,K,H,W].

    `mapping(z, c)` returns ws [B,num_ws,w_dim] and `synthesis(ws)` the image. Style mixing, truncation and editing
    change ws between the two.
    """

    z_dim: int
    w_dim: int
    cond_dim: int
    num_tokens: int = 0  # of the condition; they are the last vectors of ws
    num_ws: int
    image_channels: int
    resolution: tuple[int, int]
    # "symmetric" is [-1,1], "unit" [0,1], "imagenet" normalised by ImageNet's mean and standard deviation
    value_range: ValueRange
    condition: Condition | None
    mapping: nn.Module
    synthesis: nn.Module
    class_names: tuple[str, ...] = ()
    """Names of the classes; a training takes them from its data, and model files keep them."""
    inference: Inference | None = None
    """What `optimize_for_inference` did to this copy of a generator."""

    @classmethod
    def trace(cls, spec: Spec) -> Trace:
        """Shapes, sizes and problems of the generator that `spec` describes; nothing is allocated."""
        raise NotImplementedError

    @property
    def picture_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the pictures that `decode` makes."""
        if (decoder := getattr(self, "decoder", None)) is None:
            return self.image_channels, *self.resolution
        height, width = self.resolution
        return decoder.image_channels, decoder.downsampling * height, decoder.downsampling * width

    def decode(self, image: Float[Tensor, "b k h w"]) -> Float[Tensor, "b c i j"]:
        """The pictures of generated images: where these are latents, the decoder's, otherwise the images themselves."""
        if (decoder := getattr(self, "decoder", None)) is None:
            return image
        pictures: Tensor = decoder(image)
        return pictures

    def name_classes(self, names: Any, subject: str = "") -> None:
        """Set `class_names`.

        Args:
            names: A list of one name per class, or an empty one.
            subject: What an error is about.

        Raises:
            IncompatibleError: They are no such list.
        """
        classes = self.cond_dim if condition_input(self.spec) == "classes" else 0
        if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
            raise IncompatibleError([Problem(("class_names",), "should be a list of text")], subject)
        if names and len(names) != classes:
            fact = f"has {len(names)} names, and the generator takes {classes} classes"
            raise IncompatibleError([Problem(("class_names",), fact)], subject)
        self.class_names = tuple(names)

    @torch.no_grad()
    def condition_of(self, inputs: Sequence[Any] | Tensor) -> Float[Tensor, "b d"]:
        """The condition c of class indices or captions, whichever the generator takes.

        Raises:
            ValueError: The generator is unconditional, or `inputs` are not of the type that it takes.
        """
        device = next(self.parameters()).device
        inputs = inputs.tolist() if isinstance(inputs, Tensor) else inputs
        condition = getattr(self, "condition", None)
        if condition is not None:
            c: Tensor = condition(condition.read(inputs).to(device))
            return c
        if not self.cond_dim:
            raise ValueError("the generator is unconditional: its cond_dim is 0")
        if not all(str(each).isdecimal() and int(each) < self.cond_dim for each in inputs):
            raise ValueError(f"the generator has classes 0 to {self.cond_dim - 1}, not {list(inputs)[:3]}")
        return F.one_hot(torch.tensor([int(each) for each in inputs]), self.cond_dim).float().to(device)

    def optimize_for_inference(self, *, batch_size: int | None = None, precision: Precision = "fp32") -> Self:
        """A copy that makes images faster: equal to this generator up to rounding, in eval mode, with frozen weights.

        Weights that the synthesis uses in 16 bits only are cast once; the mapping, styles, colours and statistics of
        norms stay in float32. Values that depend on weights alone are computed once. On a GPU the second call with
        inputs of one shape is captured in a CUDA graph, which later calls replay; noise is drawn anew in each. Where
        that fails, a warning gives the reason, and calls run without a graph. Weights that are not cast share their
        memory with this generator: make a new copy after changing them.

        Args:
            batch_size: Captures the graph for this batch size now, not at the second call.
            precision: Precision of the synthesis: "fp32" (without TF32), "tf32", "bf16" or "fp16".

        Raises:
            ValueError: There is no such precision, or fp16 on a CPU.
        """
        return cast(Self, optimized(self, batch_size, precision))

    def forward(
        self,
        z: Float[Tensor, "b z"],
        c: Float[Tensor, "b d"] | None = None,
        *,
        truncation_psi: float = 1.0,
        truncation_cutoff: int | None = None,
        noise_mode: NoiseMode | None = None,
    ) -> Float[Tensor, "b k h w"]:
        """Images of latents.

        Args:
            z: Latents.
            c: Conditions of a conditional generator.
            truncation_psi: Interpolates from the mean style (0) to the styles of z (1).
            truncation_cutoff: Number of styles, from the first on, that are truncated; None for all.
            noise_mode: Noise of the layers that add it: "random", "const" or "none"; None for random noise in training
                and constant noise in eval mode.
        """
        ws = self.mapping(z, c, truncation_psi=truncation_psi, truncation_cutoff=truncation_cutoff)
        with chosen_noise(noise_mode):
            return self.synthesis(ws)


class LayeredGenerator(Generator, kind="layered"):
    """A list of steps; each uses the next style vectors of ws, as many as it needs.

    Args:
        z_dim: Features of the latent z, drawn from N(0,1).
        w_dim: Features of a style vector; `z_dim` if None.
        cond_dim: Features of the condition c, such as the number of classes (c is then one-hot); 0 for none. With a
            `condition`, its number of features; may be omitted.
        condition: Encodes a class label or caption as the condition vector c.
        mapping: Maps z and c to ws.
        synthesis: The steps: a synthesis input first, then layers and image heads. Layers accept `repeat`.
        image_channels: Channels of the image.
        multi_level: Whether images in training mode are the sums after each image head, first to last, side by side
            along the channels, as for GAT's discriminator. In eval mode they are the last sum alone.
        value_range: Range of the image's values: symmetric is [-1,1], unit [0,1], imagenet normalised by ImageNet's
            mean and standard deviation.
        output_activation: Of the image. tanh: as DCGAN's (Radford et al. 2015, https://arxiv.org/abs/1511.06434,
            section 3). hardtanh limits the image to its range, so that the plain white or black of drawings is exact,
            which a discriminator sees; a pixel beyond the range has no gradient.
        decoder: Makes pictures of images that are the latents of an autoencoder; it is not trained.
    """

    examples: ClassVar = (
        {
            "spec": {
                "z_dim": 8,
                "mapping": {"kind": "mapping", "num_layers": 2},
                "synthesis": [
                    {"kind": "constant", "resolution": [4, 3], "dim": 16},
                    {"kind": "transformer", "norm": "sln", "attention": {"kind": "dense", "num_heads": 2}},
                    {"kind": "upsample-linear", "dim": 8},
                    {"kind": "to-rgb"},
                ],
            }
        },
    )

    def __init__(
        self,
        *,
        z_dim: PositiveInt = 512,
        w_dim: PositiveInt | None = None,
        cond_dim: NonNegativeInt = 0,
        condition: Slot[Condition] | None = None,
        mapping: Slot[Mapping] = "mapping",
        synthesis: Annotated[tuple[Slot[SynthesisInput | Layer | ImageHead], ...], Field(max_length=MAX_STEPS)],
        image_channels: PositiveInt = 3,
        multi_level: bool = False,
        value_range: ValueRange = "symmetric",
        output_activation: OutputActivation = "linear",
        decoder: Slot[Autoencoder] | None = None,
    ) -> None:
        super().__init__()
        self.condition = self.fill("condition", condition)
        if self.condition is not None:
            cond_dim = resolve_cond_dim(cond_dim, str(self.condition.kind), self.condition.cond_dim)
        self.z_dim, self.w_dim, self.cond_dim = z_dim, w_dim or z_dim, cond_dim
        self.image_channels, self.value_range = image_channels, value_range
        self.num_tokens = 0 if self.condition is None else self.condition.num_tokens
        tokens = {"num_tokens": self.num_tokens}
        trace = trace_synthesis(synthesis, self.w_dim, image_channels, multi_level=multi_level, **tokens)
        self.decoder = self.fill("decoder", decoder)
        problems = [*trace.problems, *image_problems(self.decoder, image_channels, value_range, output_activation)]
        if problems:
            raise IncompatibleError(problems)
        if self.decoder is not None:
            self.decoder.requires_grad_(False)
        assert trace.image is not None
        self.resolution = (trace.image[1], trace.image[2])
        check_memory(trace.parameters)
        output = OUTPUTS.get((output_activation, value_range))
        self.synthesis = Synthesis(trace.steps, multi_level=multi_level, output=output, **tokens)
        self.num_ws = self.synthesis.num_ws
        context = _mapping_context(z_dim, self.w_dim, cond_dim, self.num_ws) | tokens
        check_mapping(mapping, self.num_tokens)
        check_memory(trace.parameters + count_parameters(("mapping",), mapping, context))  # type: ignore[arg-type]
        self.mapping = self.fill("mapping", mapping, **context)

    @classmethod
    def trace(cls, spec: Spec) -> Trace:
        assert isinstance(spec, cls.Spec)
        w_dim = spec.w_dim or spec.z_dim
        problems: list[Problem] = []
        steps: list[Step] = []
        cond_dim, num_tokens = spec.cond_dim, 0
        try:
            cond_dim, parameters, num_tokens = condition_size(spec)
            check_mapping(spec.mapping, num_tokens)
            if spec.condition is not None:
                steps.append(_step("condition", spec.condition, {}, parameters))
        except IncompatibleError as error:
            problems.extend(error.problems)
        decoder: Any = None
        if spec.decoder is not None:
            try:
                with torch.device("meta"):
                    decoder = build_on_meta(("decoder",), spec.decoder, {})
                parameters = sum(parameter.numel() for parameter in decoder.parameters())
                steps.append(_step("decoder", spec.decoder, {}, parameters))
            except IncompatibleError as error:
                problems.extend(error.problems)
        problems += image_problems(decoder, spec.image_channels, spec.value_range, spec.output_activation)
        options = {"multi_level": spec.multi_level, "num_tokens": num_tokens}
        synthesis = trace_synthesis(spec.synthesis, w_dim, spec.image_channels, **options)
        num_ws = num_tokens + max(1, schedule(synthesis.steps)[1])
        context = _mapping_context(spec.z_dim, w_dim, cond_dim, num_ws) | {"num_tokens": num_tokens}
        parameters = 0
        with torch.device("meta"), collecting():
            try:
                parameters = count_parameters(("mapping",), spec.mapping, context)
            except IncompatibleError as error:
                problems.extend(error.problems)
        steps.append(_step("mapping", spec.mapping, context, parameters))
        return Trace((*steps, *synthesis.steps), (*problems, *synthesis.problems), synthesis.complete)


def check_mapping(mapping: Any, num_tokens: int) -> None:
    """Raise an error if a condition has tokens that the mapping does not take.

    Raises:
        IncompatibleError: It takes none.
    """
    if num_tokens and not mapping.block.takes_tokens:
        fact = f"the condition has {num_tokens} tokens, which {mapping.kind} does not take"
        raise incompatible("mapping", f"{fact}; use text-mapping, or omit tokens in the condition")


def _mapping_context(z_dim: int, w_dim: int, cond_dim: int, num_ws: int) -> dict[str, int]:
    return {"z_dim": z_dim, "style_dim": w_dim, "cond_dim": cond_dim, "num_styles": num_ws}


def _step(name: str, spec: Spec, context: dict[str, Any], parameters: int) -> Step:
    """A part of the generator outside its list of steps."""
    return Step((name,), spec, context, 0, False, None, None, None, parameters, parameters)
