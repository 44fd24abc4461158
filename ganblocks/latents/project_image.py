"""Projects a picture and writes the result: style vectors, both images, losses and an animation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from assemblies.document_paths import with_settings
from blocks.families import FeatureExtractor
from ganblocks.data.decode import decode
from ganblocks.data.skipped import UnreadableError
from ganblocks.errors import DataError, UsageError
from ganblocks.latents.projection import Space, perceptual, project
from ganblocks.options import accepts
from ganblocks.pixels import from_bytes
from ganblocks.sampling.conditions import resolve_conditions
from ganblocks.sampling.grids import save_grid, scale_for, to_picture
from ganblocks.sampling.load import inference_device, load
from ganblocks.sampling.options import SamplingOptions
from ganblocks.sampling.pictures import Metadata, made_by, new_figure, save_animation, save_figure, writes_video
from registry import build_at
from registry.spec_file import validate, write_tensors

FORMAT = "ganblocks-ws-1"
FRAMES, FPS = 48, 12


@accepts(SamplingOptions)
def save_projection(
    model: str | Path,
    image: str | Path,
    out: str | Path,
    *,
    space: Space = "w",
    steps: int = 500,
    learning_rate: float = 0.1,
    features: str | None = None,
    settings: Sequence[str] = (),
    options: SamplingOptions,
) -> dict[str, Any]:
    """Write `ws.safetensors`, `projection.png`, `losses.png`, `projection.gif` and, with av, `.mp4` into a folder.

    Args:
        model: A run folder or a model file.
        image: A picture; it is resized to cover the generator's images and cropped at the centre.
        out: The folder.
        space: "w" for one style vector for all layers, "w+" for one each.
        steps: Steps of the optimisation.
        learning_rate: Highest learning rate.
        features: Kind of a feature extractor for a perceptual loss, such as lpips or timm; None for pixels and their
            pyramid alone.
        settings: Options of the extractor, each `path=value`, such as `weights=lpips.pth`.

    Raises:
        CheckpointError: There is no model.
        DataError: The picture cannot be read, or the generator does not have the class or caption.
        SpecError: There is no such extractor, an option is not valid, or its weights are not here.
        UsageError: `out` is a file, or the images have more channels than the extractor takes.
    """
    out = Path(out)
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out {out}: is a file; choose a folder")
    if not Path(image).is_file():
        raise DataError(f"{image} does not exist or is not a file; pass a picture")
    extractor = None if features is None else build_extractor(features, settings)
    device = inference_device(options.device)
    generator = load(model, device, allow_external=options.allow_external)
    channels, height, width = generator.picture_shape
    if extractor is not None and channels not in (1, 3):
        raise UsageError(
            f"--features {features}: takes grey or RGB images; the model's have {channels} channels: leave it out"
        )
    try:
        pixels = decode(Path(image), (height, width), channels, "lanczos")
    except UnreadableError as error:
        raise DataError(f"{image} cannot be read as a picture: {error}") from None
    target = from_bytes(torch.from_numpy(pixels)[None], generator.value_range)
    conditions = resolve_conditions(generator, options.classes, options.captions)
    if len(conditions.vectors) > 1:
        raise UsageError(f"a projection has one condition, not {len(conditions.vectors)}; give one of them")
    result = project(
        generator,
        target,
        space=space,
        steps=steps,
        learning_rate=learning_rate,
        c=conditions.vectors[0],
        features=None if extractor is None else perceptual(extractor.to(device)),
        frames=min(FRAMES, steps),
    )
    metadata = made_by(generator, options.command)
    out.mkdir(parents=True, exist_ok=True)
    write_tensors(out / "ws.safetensors", {"ws": result.ws}, {"format": FORMAT})
    save_grid(
        [target[0], result.image[0]],
        out / "projection.png",
        columns=2,
        labels=["target", f"{result.psnr:.1f} dB"],
        value_range=generator.value_range,
        scale=options.scale,
        metadata=metadata,
    )
    scale = options.scale or scale_for(max(height, width))
    frames = [to_picture(frame[0], generator.value_range, scale) for frame in result.frames]
    animations = ["projection.gif", *(["projection.mp4"] if writes_video() else [])]
    for name in animations:
        save_animation(frames, out / name, FPS, metadata)
    _save_curve(result.losses, out / "losses.png", metadata)
    files = ["projection.png", "ws.safetensors", "losses.png", *animations]
    return {
        "out": str(out),
        "files": files,
        "space": space,
        "steps": steps,
        "loss": result.losses[-1],
        "psnr": result.psnr,
        "features": None if extractor is None else extractor.record(),
    }


def build_extractor(kind: str, settings: Sequence[str] = ()) -> FeatureExtractor:
    """A frozen feature extractor by its kind.

    Raises:
        SpecError: There is no such kind, an option is not valid, or its weights are not here.
    """
    document = with_settings({"kind": kind}, settings)
    extractor: FeatureExtractor = build_at(("features",), validate(document, FeatureExtractor, subject="--features"))
    return extractor.requires_grad_(False).eval()


def _save_curve(losses: Sequence[float], path: Path, metadata: Metadata) -> None:
    """Plot the losses over the steps."""
    figure = new_figure(6, 3.5)
    axes = figure.subplots()
    axes.plot(losses)
    axes.set(xlabel="step", ylabel="loss", yscale="log")
    axes.grid(alpha=0.3)
    save_figure(figure, path, metadata)
