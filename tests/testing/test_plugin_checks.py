"""Conformance of plugins: a sound plugin passes, and each fault is reported as advice."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest import SkipTest

import pytest
import torch
from torch import Tensor

from assemblies.conversion.importer import Conversion, Importer
from assemblies.conversion.weight_map import rule
from blocks.families import FeatureSet, Metric
from ganblocks.errors import UsageError
from ganblocks.plugin_templates import write_package
from ganblocks.testing import plugin_checks
from ganblocks.testing.importers import converts_its_example, declares_its_options
from ganblocks.testing.metrics import gives_numbers
from ganblocks.testing.presets import fits_together, trains_one_step
from registry import Block, IncompatibleError, Kernel, Op, Origin, catalogue, hookimpl
from registry.testing import checks
from registry.testing.kernel_checks import kernel_checks
from tests import tiny
from tests.test_plugin_templates import announce
from tests.toys import Cropping, LossOfImages, NoPenalty, UndeclaredPenalty, added

ROOT = Path(__file__).parents[2]
METRICS = [  # digit trains a classifier first, and kid measures 100 subsets
    entry for entry in catalogue.entries("metric") if entry.kind not in ("digit", "kid")
]


class Halved(Kernel):
    """Half of the values."""

    op, name, priority, second_order = "bias_act", "halved", -9, True

    def run(self, x: Tensor, bias: Tensor | None = None, **options: Any) -> Tensor:
        return Op.ops["bias_act"].reference.run(x, bias, **options) / 2


class Choosy(Kernel):
    """Supports nothing."""

    op, name = "bias_act", "choosy"

    def unsupported(self, *_: Any, **__: Any) -> list[str]:
        return ["takes maps of 999 channels only"]


class Plugin:
    """A kernel, a preset and a command."""

    __name__ = "plugin_of_a_test"

    @hookimpl
    def register_kernels(self, register: Any) -> None:
        register(Halved())

    @hookimpl
    def register_presets(self, register: Any) -> None:
        register("tiny-gan", small)

    @hookimpl
    def register_commands(self, register: Any) -> None:
        register("silent", silent)


def small() -> dict[str, Any]:
    """A GAN of 16x16 pixels."""
    return tiny.gan()


def silent() -> None:
    pass


def misfit() -> dict[str, Any]:
    """A GAN whose heads do not divide its channels."""
    synthesis = [dict(step) for step in tiny.GENERATOR["synthesis"]]
    synthesis[1]["attention"] = {"kind": "dense", "num_heads": 5}
    return tiny.gan(generator=tiny.GENERATOR | {"synthesis": synthesis})


def diverging() -> dict[str, Any]:
    """A GAN with a learning rate that is far too large."""
    return tiny.gan(regularizers=[], generator_optimizer={"lr": 1e39}, discriminator_optimizer={"lr": 1e39})


def undocumented() -> dict[str, Any]:
    return tiny.gan()


@pytest.fixture
def plugin() -> Iterator[None]:
    with added(Plugin(), Origin("demo", "demo-package", "1.0")):
        yield


@pytest.mark.parametrize("name", ["demo", "demo-package", "demo_package"])
def test_everything_that_a_plugin_registers_is_checked(plugin: None, name: str) -> None:
    names = [str(check) for check in plugin_checks(name)]
    assert "kernel/bias_act/halved/call0/float64/agrees_with_the_reference" in names
    assert "preset/tiny-gan/trains_one_step" in names
    assert "command/silent/shows_its_help" in names
    assert len(set(names)) == len(names)


def test_a_plugin_that_is_not_installed_or_failed_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        UsageError, match=r"no plugin 'naten' is installed; did you mean 'natten'\? .*pip install --editable"
    ):
        plugin_checks("naten")
    monkeypatch.setitem(catalogue.failures, "spiral (spiral-attention 1.0)", "ImportError: no module named spiral")
    with pytest.raises(UsageError, match=r"the plugin spiral \(spiral-attention 1.0\) cannot be used: ImportError"):
        plugin_checks("spiral")


@pytest.mark.parametrize(
    ("kernel", "check", "advice"),
    [
        (
            Halved(),
            "agrees_with_the_reference",
            r"the values differ from the reference kernel's in \d+ of 120 numbers, by",
        ),
        (Halved(), "differentiates_twice", r"the second derivative with respect to x differ"),
        (Choosy(), "supports_a_call", r"supports none of the \d+ calls of bias_act: takes maps of 999 channels only"),
    ],
)
def test_a_fault_of_a_kernel_is_reported(kernel: Kernel, check: str, advice: str) -> None:
    faulty = [each for each in kernel_checks(kernel) if each.function.__name__ == check]
    with pytest.raises(AssertionError, match=advice):
        faulty[0]()


@pytest.mark.parametrize(
    ("block", "check", "advice"),
    [
        (
            LossOfImages,
            "gives_the_promised_shapes",
            "generator of loss-of-images returns NoneType; a loss must return",
        ),
        (NoPenalty, "gives_the_promised_shapes", "forward of no-penalty returns NoneType; a regularizer must return a"),
        (UndeclaredPenalty, "declares_second_derivatives", r"gradient \(create_graph=True\); declare second_order"),
        (Cropping, "gives_the_promised_shapes", r"returns images \[2, 3, 7, 8\]; an augmentation must keep the shape"),
    ],
)
def test_a_fault_of_a_block_of_the_training_is_reported(block: type[Block], check: str, advice: str) -> None:
    faulty = next(each for each in checks(block) if each.function.__name__ == check)
    with pytest.raises((AssertionError, IncompatibleError), match=advice):
        faulty()


def test_a_preset_is_built_and_trained_for_a_step() -> None:
    fits_together("tiny-gan", small)
    trains_one_step("tiny-gan", small)
    trains_one_step("tiny-generator", lambda: tiny.GENERATOR)


@pytest.mark.parametrize(
    ("document", "check", "advice"),
    [
        (
            misfit,
            fits_together,
            r"generator.synthesis.1.attention.num_heads +16 channels do not split evenly over 5 heads",
        ),
        (undocumented, fits_together, "has no docstring, whose first line `ganblocks presets` shows"),
        (diverging, trains_one_step, "gradients are not finite: generator"),
    ],
)
def test_a_fault_of_a_preset_is_reported(document: Any, check: Any, advice: str) -> None:
    with pytest.raises(AssertionError, match=advice):
        check("faulty", document)


@pytest.mark.parametrize("entry", METRICS, ids=lambda entry: entry.kind)
def test_every_metric_gives_numbers(entry: Any) -> None:
    try:
        gives_numbers(entry.kind, entry.block)
    except SkipTest as reason:
        pytest.skip(str(reason))


class Distance(Metric, kind="distance-of-a-test"):
    """A distance of means, declared to be better if it is higher."""

    lower_is_better = False

    def __init__(self) -> None:
        super().__init__()

    def measure(self, batch: Any) -> Tensor:
        return batch.images.float().mean(dim=(2, 3))

    def forward(self, generated: FeatureSet, reference: FeatureSet | None) -> dict[str, float]:
        assert reference is not None
        return {"distance": (generated.mean - reference.mean).norm().item()}


class Nameless(Distance, kind="nameless-of-a-test"):
    """Returns a tensor."""

    def forward(self, generated: FeatureSet, reference: FeatureSet | None) -> dict[str, Any]:
        return {"distance": generated.mean.norm()}


@pytest.mark.parametrize(
    ("metric", "advice"),
    [
        (Distance, "distance is 0 for equal sets and .* for different ones; set lower_is_better: higher is declared"),
        (Nameless, r"distance is of type Tensor, not float; return tensor.item\(\)"),
    ],
)
def test_a_fault_of_a_metric_is_reported(metric: Any, advice: str) -> None:
    with pytest.raises(AssertionError, match=advice):
        gives_numbers("distance", metric)


DISCRIMINATOR = {"kind": "layered", "steps": [{"kind": "linear-from-rgb", "dim": 2}, {"kind": "patch"}]}


def importer(**changes: Any) -> Importer:
    """An importer of a discriminator of one convolution."""

    def conversion(tensors: Mapping[str, Tensor], options: Mapping[str, Any]) -> Conversion:
        rules = [
            rule("steps.0.conv.weight", "theirs.conv"),
            *([rule(name, name) for name in tensors if name[:5] == "steps"]),
        ]
        from assemblies import parse

        context = {"resolution": (4, 4), "image_channels": 3, "cond_dim": 0}
        return Conversion(parse(DISCRIMINATOR), rules, tensors, context=context)

    def example() -> tuple[dict[str, Tensor], dict[str, Any]]:
        from assemblies import parse

        state = parse(DISCRIMINATOR).build(resolution=(4, 4), image_channels=3, cond_dim=0).state_dict()
        return {("theirs.conv" if name == "steps.0.conv.weight" else name): value for name, value in state.items()}, {}

    values = {"form": "toy layout", "recognises": lambda names: "theirs.conv" in names, "conversion": conversion}
    return Importer(
        **values | {"options": {"size": "Side of the images."}, "roles": ("D",), "example": example} | changes
    )


def test_an_importer_converts_its_example() -> None:
    class Importers:
        __name__ = "importers_of_a_test"

        @hookimpl
        def register_importers(self, register: Any) -> None:
            register(sound)

    sound = importer()
    declares_its_options("toy layout", sound)
    with added(Importers()):
        converts_its_example("toy layout", sound)
        wrong = importer(example=lambda: ({"theirs.conv": torch.zeros(1)}, {}))
        with pytest.raises(AssertionError, match="toy layout"):
            converts_its_example("toy layout", wrong)
    with pytest.raises(SkipTest, match="declares no example"):
        converts_its_example("toy layout", importer(example=None))


@pytest.mark.parametrize(
    ("changes", "advice"),
    [
        ({"options": {"size": " "}}, "its option size has no description"),
        ({"roles": ("Q",)}, "its roles are Q; valid: G_ema, G, D"),
        ({"recognises": lambda names: True}, r"recognises tensors of another layout: \[\]"),
    ],
)
def test_a_fault_of_an_importer_is_reported(changes: dict[str, Any], advice: str) -> None:
    with pytest.raises(AssertionError, match=advice):
        declares_its_options("toy layout", importer(**changes))


@pytest.mark.slow
def test_pytest_reports_a_fault_of_a_plugin_as_advice(tmp_path: Path) -> None:
    write_package("demo-norm", "norm", tmp_path)
    code = tmp_path / "demo-norm" / "demo_norm" / "norm.py"
    code.write_text(
        code.read_text().replace("return gain[:, None, None] *", "return x.new_ones(17) * gain[:, None, None, :1] *")
    )
    announce(tmp_path / "demo-norm", tmp_path / "site")
    path = os.pathsep.join(map(str, (tmp_path / "site", tmp_path / "demo-norm", ROOT)))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", tmp_path]
    done = subprocess.run(
        [*command, "--ganblocks-plugin", "demo-norm", "-k", "promised_shapes or is_documented", tmp_path / "site"],
        env={**os.environ, "PYTHONPATH": path},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "2 failed, 1 passed" in done.stdout
    assert "norm/demo/defaults/odd/gives_the_promised_shapes" in done.stdout
    assert (
        "must hold: Outputs have the shapes of the family's contract, and the same shapes on the meta device."
        in done.stdout
    )
    assert f"at {code}:" in done.stdout
    assert "Traceback" not in done.stdout


def test_the_pytest_plugin_imports_no_torch() -> None:
    code = "import sys, ganblocks.testing.pytest_plugin; print({'torch', 'numpy', 'pydantic'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
