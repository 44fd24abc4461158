"""Export a generator as programs that run without ganblocks: ONNX, torch.export or AOTInductor.

A generator becomes two programs, `mapping` and `synthesis`, so that truncation, style mixing and editing stay possible
between them; `model.json` describes their inputs and outputs. The batch size is dynamic.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import warnings
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import torch
from torch.export import Dim, ExportedProgram

from assemblies import Generator
from ganblocks.errors import UsageError, UserError
from ganblocks.publishing.programs import Program, programs
from ganblocks.sampling.load import load
from registry.kernels import portable_kernels

Format = Literal["onnx", "torch-export", "aoti"]
SUFFIXES: dict[Format, str] = {"onnx": ".onnx", "torch-export": ".pt2", "aoti": ".aoti.pt2"}
CHECKED_BATCH = 3  # another batch size than the example's, so that the check covers the dynamic dimension
OPSET = 20  # of ONNX
TOLERANCE = 1e-4  # of the largest absolute value


class ExportError(UserError, RuntimeError):
    """A generator that cannot be exported, or an exported program with other results."""


@torch.no_grad()
def export(
    model: Generator | str | Path,
    folder: str | Path,
    *,
    format: Format = "onnx",
    overwrite: bool = False,
    allow_external: bool = False,
    command: str | None = None,
) -> dict[str, Any]:
    """Write the programs of a generator into a folder, and check them against the generator.

    The programs take float32 tensors on the CPU. `mapping`: z [B,z_dim], c [B,cond_dim] for a conditional generator,
    truncation_psi [] -> ws [B,num_ws,w_dim]. `synthesis`: ws and, for each layer that adds noise, a map [B,H,W] of
    N(0,1) -> image [B,K,H,W] in the generator's value range. Encoders of captions and classes are not exported: c is an
    input.

    Args:
        model: A generator in eval mode, a run folder or a model file.
        folder: Where to write `mapping`, `synthesis` and `model.json`.
        format: "onnx" (needs the package onnxscript), "torch-export" (for torch.export.load) or "aoti" (machine code
            for this processor, for torch._inductor.aoti_load_package; needs a C++ compiler).
        overwrite: Whether to replace an earlier export in this folder.
        allow_external: As in `load`.
        command: The command line, for `model.json`.

    Returns:
        The content of `model.json`; "difference" is the largest difference of a program to the generator, relative to
        the largest value.

    Raises:
        ExportError: A block cannot be exported, or a program differs by more than 1e-4; nothing is written then.
        UsageError: The folder exists and `overwrite` is not set or it has other files, or a package is missing.
        CheckpointError: `model` names no model.
    """
    folder = Path(folder)
    if format not in SUFFIXES:
        raise UsageError(f"--format {format}: unknown; valid: {', '.join(SUFFIXES)}")
    if folder.exists():
        if not folder.is_dir():
            raise UsageError(f"{folder} is a file; choose a folder")
        if other := _file_of_others(folder):
            raise UsageError(f"{folder} has {other}, which is no file of an export; choose another folder")
        if not overwrite:
            raise UsageError(f"{folder} exists; pass --overwrite to replace it, or choose another folder")
    if format == "onnx" and find_spec("onnxscript") is None:
        raise UsageError("--format onnx needs the package onnxscript: pip install 'ganblocks[onnx]'")
    generator = load(model, allow_external=allow_external) if isinstance(model, str | Path) else model
    if next(generator.parameters()).device.type != "cpu" or generator.training:
        raise UsageError("export needs a generator on the CPU in eval mode: generator.cpu().eval()")
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        record = _description(generator, format, command)
        for name, program in programs(generator).items():
            path = scratch / f"{name}{SUFFIXES[format]}"
            _write(name, program, path, format)
            record["programs"][name] |= {"file": path.name, "difference": _check(name, program, path, format)}
        (scratch / "model.json").write_text(json.dumps(record, indent=2) + "\n")
        scratch.chmod(0o755)
        if folder.exists():
            shutil.rmtree(folder)
        scratch.replace(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return record


def _file_of_others(folder: Path) -> str | None:
    """The name of a file that no export wrote, such as those of a training; None if there is none."""
    others = {path.name for path in folder.iterdir() if path.name.partition(".")[0] not in ("mapping", "synthesis")}
    return min(others - {"model.json"}, default=None)


def _description(generator: Generator, format: Format, command: str | None) -> dict[str, Any]:
    """What a user of the programs needs to know."""
    record: dict[str, Any] = {
        "format": format,
        "value_range": generator.value_range,
        "resolution": list(generator.picture_shape[1:]),
        "programs": {},
        "spec": generator.spec.to_dict(),
        "versions": {name: version(name) for name in ("ganblocks", "torch")},
    }
    for name, program in programs(generator).items():
        inputs = {
            key: ["batch", *tensor.shape[1:]] if key in program.batched else list(tensor.shape)
            for key, tensor in program.inputs.items()
        }
        record["programs"][name] = {"inputs": inputs, "output": program.output}
    record |= {"opset": OPSET} if format == "onnx" else {}
    return record | ({"command": command} if command else {})


def _write(name: str, program: Program, path: Path, format: Format) -> None:
    try:
        exported = _exported(program)
        if format == "torch-export":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of weights that are views of one tensor, which `_check` reads back
                torch.export.save(exported, path)
        elif format == "aoti":
            torch._inductor.aoti_compile_and_package(exported, package_path=str(path))
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of the exporter about its own internals
                names, output = list(program.inputs), [program.output]
                onnx = torch.onnx.export(
                    exported, input_names=names, output_names=output, opset_version=OPSET, verbose=False
                )
            assert onnx is not None
            for value in (*onnx.model.graph.inputs, *onnx.model.graph.outputs):
                assert value.shape is not None
                for axis, side in enumerate(value.shape):
                    value.shape[axis] = side if isinstance(side, int) else "batch"
            onnx.save(path)
    except Exception as error:  # the exporters raise errors of many classes
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise ExportError(
            f"{name}: cannot be exported as {format} ({type(error).__name__}: {reason[0][:300]}); torch.export."
            "draft_export finds the block; --format torch-export supports the most blocks"
        ) from error


def _exported(program: Program) -> ExportedProgram:
    batch = Dim("batch", min=1)
    shapes = tuple({0: batch} if name in program.batched else None for name in program.inputs)
    inputs = tuple(program.inputs.values())
    with portable_kernels():
        variadic = _variadic(program.module, inputs, shapes)
        return torch.export.export(program.module, inputs, dynamic_shapes=variadic)


def _variadic(module: torch.nn.Module, inputs: tuple[Any, ...], shapes: tuple[Any, ...]) -> tuple[Any, ...]:
    """The shapes in the structure of `forward`, whose last parameter takes any number of tensors."""
    named = module.forward.__code__.co_argcount - 1  # without self
    return shapes[:named] + ((shapes[named:],) if len(inputs) > named else ())


def _check(name: str, program: Program, path: Path, format: Format) -> float | None:
    """The largest difference of a program to its module, relative to the largest value; None without onnxruntime.

    Raises:
        ExportError: The difference is above `TOLERANCE`.
    """
    inputs = program.sample(CHECKED_BATCH)
    if format == "torch-export":
        output = torch.export.load(path).module()(*inputs.values())
    elif format == "aoti":
        output = torch._inductor.aoti_load_package(str(path))(*inputs.values())
    elif find_spec("onnxruntime") is None:
        return None
    else:
        from onnxruntime import InferenceSession

        session = InferenceSession(path, providers=["CPUExecutionProvider"])
        output = torch.from_numpy(session.run(None, {key: value.numpy() for key, value in inputs.items()})[0])
    with portable_kernels():
        expected = program.module(*inputs.values())
    difference = float((output - expected).abs().max() / expected.abs().max())
    if not difference <= TOLERANCE:
        raise ExportError(
            f"{name}: the exported program differs by {difference:.1e} of the largest value, above "
            f"{TOLERANCE:.0e}; nothing was written. Please report this with the model's spec"
        )
    return difference
