"""Directions in the style space W along which images change most, found without labels.

GANSpace: principal components of w, Härkönen et al. 2020, https://arxiv.org/abs/2004.02546, section 3.1. SeFa: the
directions that change the styles of the layers most, in closed form, Shen and Zhou 2021,
https://arxiv.org/abs/2007.06600, section 3.2.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.autograd.functional import jacobian

from assemblies import CheckpointError, Generator
from blocks.common.pretrained.frozen_module import sha256_of_tensors
from ganblocks.sampling.generate import Truncation, styles
from registry.spec_file import write_tensors
from registry.text import excerpt

Method = Literal["ganspace", "sefa"]
FORMAT = "ganblocks-directions-1"
SAMPLES = 10_000  # style vectors whose statistics are taken


class Directions(NamedTuple):
    """Directions of W, the most important first.

    Args:
        vectors: Directions of length 1.
        scales: The standard deviation of w along each.
        method: How they were found.
        fingerprint: Hash of the generator's tensors; empty if it is not known.
        model: Where the generator came from; empty if it is not known.
    """

    vectors: Float[Tensor, "k w"]
    scales: Float[Tensor, " k"]
    method: str
    fingerprint: str = ""
    model: str = ""


@torch.no_grad()
def find_directions(
    generator: Generator,
    count: int = 10,
    *,
    method: Method = "ganspace",
    c: Float[Tensor, " d"] | None = None,
    samples: int = SAMPLES,
) -> Directions:
    """The directions of a generator in eval mode.

    Args:
        generator: The generator, not one that is optimised for inference: its weights identify it.
        count: Number of directions, at most w_dim.
        method: "ganspace" or "sefa".
        c: A condition for all style vectors; for None a class-conditional generator takes class seed % classes.
        samples: Number of style vectors, of seeds 0, 1, ..., that the statistics are taken from.

    Raises:
        ValueError: There are not so many directions, or no such method.
    """
    if not 1 <= count <= generator.w_dim:
        raise ValueError(f"{count} directions: w has {generator.w_dim} dimensions; choose a number from 1 to those")
    w = styles(generator, range(samples), c=c, truncation=Truncation()).mean(1).double()
    centered = w - w.mean(0)
    if method == "ganspace":
        matrix = centered.T @ centered
    elif method == "sefa":
        matrix = sum((a.T @ a for a in style_matrices(generator, w.mean(0))), torch.zeros_like(w.T @ w))
    else:
        raise ValueError(f"unknown method {method!r}; valid: ganspace, sefa")
    vectors = torch.linalg.eigh(matrix).eigenvectors.flip(1).T[:count]
    largest = vectors.gather(1, vectors.abs().argmax(1, keepdim=True))
    vectors = vectors * largest.sign()  # an eigenvector has no sign of its own
    scales = (centered @ vectors.T).std(0)
    return Directions(vectors.float().cpu(), scales.float().cpu(), method, sha256_of_tensors(generator))


def style_matrices(generator: Generator, w: Float[Tensor, " w"]) -> list[Float[Tensor, "s w"]]:
    """The derivative at w of each layer's map from a style vector to its styles: of affine maps the weight. In float64.

    They are found by running the synthesis once: such a map is a module whose input is a style vector.

    Raises:
        ValueError: The generator has none.
    """
    parameter = next(generator.parameters())
    ws = torch.randn(1, generator.num_ws, generator.w_dim, device=parameter.device, dtype=parameter.dtype)
    maps: dict[str, nn.Module] = {}

    def recorder(name: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        def record(module: nn.Module, inputs: tuple[Any, ...]) -> None:
            x = inputs[0] if inputs else None
            if isinstance(x, Tensor) and x.shape == (1, generator.w_dim) and (ws[0] == x).all(1).any():
                maps[name] = module

        return record

    named = [(name, module) for name, module in generator.synthesis.named_modules() if name]
    hooks = [module.register_forward_pre_hook(recorder(name)) for name, module in named]
    try:
        with torch.no_grad():
            generator.synthesis(ws)
    finally:
        for hook in hooks:
            hook.remove()
    outermost = [maps[name] for name in maps if not any(name.startswith(f"{other}.") for other in maps)]
    if not outermost:
        raise ValueError("no layer of this generator takes a style vector alone; use method ganspace")
    point = w.to(parameter)
    return [jacobian(lambda x, map=map: map(x[None])[0], point).double() for map in outermost]  # type: ignore[no-untyped-call]


def save_directions(path: str | Path, directions: Directions) -> None:
    """Write directions as a .safetensors file, whole or not at all."""
    tensors = {"vectors": directions.vectors, "scales": directions.scales}
    texts = {"method": directions.method, "fingerprint": directions.fingerprint, "model": directions.model}
    write_tensors(path, tensors, {"format": FORMAT, **texts})


def holds_directions(path: Path) -> bool:
    """Whether a file is one of `save_directions`."""
    try:
        with safe_open(path, framework="pt") as file:
            return (file.metadata() or {}).get("format") == FORMAT
    except (OSError, SafetensorError):
        return False


def load_directions(path: str | Path, generator: Generator) -> Directions:
    """The directions in a file of `save_directions`.

    Args:
        path: The file.
        generator: The generator that they were found for, not optimised for inference; files without a fingerprint of
            theirs, which earlier versions wrote, fit every one with style vectors of their size.

    Raises:
        CheckpointError: The file is missing, damaged, another one, or made for another generator.
    """
    if Path(path).is_dir():
        raise CheckpointError(f"{path} is a folder; give a file of `ganblocks directions`")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise CheckpointError(f"{path} holds no directions; `ganblocks directions` writes such files")
            vectors, scales = file.get_tensor("vectors"), file.get_tensor("scales")
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be read as directions ({excerpt(error, 200)})") from None
    if vectors.ndim != 2 or vectors.shape[1] != generator.w_dim or scales.shape != vectors.shape[:1]:
        shape = tuple(vectors.shape)
        fact = f"{path} has directions of shape {shape}, the generator's style vectors have {generator.w_dim} numbers"
        raise CheckpointError(f"{fact}; find directions of this model with `ganblocks directions`")
    found_for = metadata.get("fingerprint", "")
    if found_for and found_for != (fingerprint := sha256_of_tensors(generator)):
        name = f"{excerpt(metadata['model'])}, " if metadata.get("model") else ""
        other = f"another generator ({name}sha256 {excerpt(found_for, 12)})"
        fact = f"{path} has directions of {other}, and this one's tensors have sha256 {fingerprint[:9]}..."
        raise CheckpointError(f"{fact}; find directions of this model with `ganblocks directions`")
    return Directions(vectors, scales, metadata.get("method", ""), found_for, metadata.get("model", ""))
