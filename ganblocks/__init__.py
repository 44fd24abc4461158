"""ganblocks: compose, train, sample and convert transformer- and style-based GANs.

The public API; everything is imported when it is first used, so that `import ganblocks` needs no torch.

    read(source)                    the spec in a file or preset
    check(spec)                     shapes and sizes of its networks, or all that does not fit
    build(spec)                     the networks themselves, with random weights
    train(spec, data, out)          train a GAN; returns its `Run`
    load(source)                    the generator of a run folder or model file
    generate(model, seeds)          images from a generator, run folder or model file
    evaluate(model, metrics, data)  FID and other metrics, with a record; compare(models), records side by side
    convert(source, target)         a published checkpoint as a model file
    export(model, folder)           a generator as programs for ONNX, torch.export or AOTInductor
    from_pretrained(name), save_pretrained(model, folder), push_to_hub(model, repo): the Hugging Face Hub
    blocks(), presets(), doctor()   what is installed, and what can run here
    open_data(source, ...)          a data set; save_grid(images, path), a picture; DigitScore, a metric
"""

from __future__ import annotations

from importlib import import_module, metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from assemblies import check as check
    from assemblies import read as read
    from ganblocks.conversion import convert as convert
    from ganblocks.data.sources import open_data as open_data
    from ganblocks.describe import families as blocks
    from ganblocks.describe import presets as presets
    from ganblocks.diagnosis import diagnose as doctor
    from ganblocks.metrics.classifier.digits import DigitScore as DigitScore
    from ganblocks.metrics.compare import compare as compare
    from ganblocks.metrics.evaluate import evaluate as evaluate
    from ganblocks.networks import build as build
    from ganblocks.publishing.export import export as export
    from ganblocks.publishing.hub import from_pretrained as from_pretrained
    from ganblocks.publishing.hub import push_to_hub as push_to_hub
    from ganblocks.publishing.hub import save_pretrained as save_pretrained
    from ganblocks.sampling.generate import generate as generate
    from ganblocks.sampling.grids import save_grid as save_grid
    from ganblocks.sampling.load import load as load
    from ganblocks.training.run.folder import Run as Run
    from ganblocks.training.train import train as train

    __version__: str

LAZY = {
    "DigitScore": "ganblocks.metrics.classifier.digits:DigitScore",
    "Run": "ganblocks.training.run.folder:Run",
    "blocks": "ganblocks.describe:families",
    "build": "ganblocks.networks:build",
    "check": "assemblies:check",
    "compare": "ganblocks.metrics.compare:compare",
    "convert": "ganblocks.conversion:convert",
    "doctor": "ganblocks.diagnosis:diagnose",
    "evaluate": "ganblocks.metrics.evaluate:evaluate",
    "export": "ganblocks.publishing.export:export",
    "from_pretrained": "ganblocks.publishing.hub:from_pretrained",
    "generate": "ganblocks.sampling.generate:generate",
    "load": "ganblocks.sampling.load:load",
    "open_data": "ganblocks.data.sources:open_data",
    "presets": "ganblocks.describe:presets",
    "push_to_hub": "ganblocks.publishing.hub:push_to_hub",
    "read": "assemblies:read",
    "save_grid": "ganblocks.sampling.grids:save_grid",
    "save_pretrained": "ganblocks.publishing.hub:save_pretrained",
    "train": "ganblocks.training.train:train",
}

__all__ = [
    "DigitScore",
    "Run",
    "__version__",
    "blocks",
    "build",
    "check",
    "compare",
    "convert",
    "doctor",
    "evaluate",
    "export",
    "from_pretrained",
    "generate",
    "load",
    "open_data",
    "presets",
    "push_to_hub",
    "read",
    "save_grid",
    "save_pretrained",
    "train",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return metadata.version("ganblocks")
    if name not in LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, attribute = LAZY[name].partition(":")
    return getattr(import_module(module), attribute)


def __dir__() -> list[str]:
    return __all__
