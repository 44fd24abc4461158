"""`check` finds what would fail later: at the build or in the first training step."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from assemblies import GAN, check, parse, trace
from registry import IncompatibleError, catalogue
from tests import tiny


def problems(document: dict[str, Any]) -> dict[str, str]:
    """The problems that `check` reports, by their locations; the build reports the same."""
    spec = parse(document)
    with pytest.raises(IncompatibleError) as caught:
        check(spec)
    with pytest.raises(IncompatibleError):
        spec.build()
    return {problem.location: problem.message for problem in caught.value.problems}


def generator(*synthesis: Any, **options: Any) -> dict[str, Any]:
    return {"kind": "layered", "z_dim": 8, "synthesis": list(synthesis), **options}


def test_a_map_of_one_pixel_is_traced() -> None:
    document = generator({"kind": "constant", "resolution": 1, "dim": 8}, "transformer", "to-rgb")
    whole = check(parse(document))["generator"]
    assert whole.image == (3, 1, 1)
    built = parse(document).build()
    assert built(torch.randn(2, 8)).shape == (2, 3, 1, 1)
    assert whole.parameters == sum(parameter.numel() for parameter in built.parameters())


def test_steps_after_an_error_are_not_checked() -> None:
    start = {"kind": "constant", "resolution": 4, "dim": 8}
    messages = problems(generator(start, "to-rgb", start, "transformer", "transformer", "to-rgb"))
    assert messages["synthesis.2"] == "a synthesis input is the first step; an earlier step already made features"
    assert messages["synthesis.3"] == "not checked, nor the 2 steps after it: fix the error above first"
    assert problems(generator(start, start, "to-rgb"))["synthesis.2"] == "not checked: fix the error above first"


def test_steps_whose_output_nothing_uses_are_refused() -> None:
    start, layer = {"kind": "constant", "dim": 8}, {"kind": "conv", "dim": 8}
    (message,) = (found := problems(generator(start, "to-rgb", layer, "to-rgb", "transformer", layer))).values()
    assert list(found) == ["synthesis.4"]
    assert message.startswith("no image-head follows, so that nothing uses the output; remove these 2 steps, or add")
    stem = {"kind": "overlapping-patches", "dim": 8, "class_token": True}
    projector = {
        "kind": "token-projector",
        "dim": 4,
        "projector_dim": 8,
    }  # of the same features as the head, or of later
    discriminator = {"kind": "layered", "steps": [stem, "linear", layer, projector, layer]}
    assert list(problems(tiny.gan(discriminator=discriminator))) == ["discriminator.steps.4"]


def test_path_length_needs_style_vectors() -> None:
    plain = generator({"kind": "constant", "resolution": 16, "dim": 8}, {"kind": "linear-patches"})
    messages = problems(tiny.gan(generator=plain, regularizers=["path-length"]))
    assert "uses no style vectors" in messages["regularizers.0"]


def test_check_and_build_agree_on_frozen_steps() -> None:
    steps = len(tiny.DISCRIMINATOR["steps"])
    check(parse(tiny.gan(freeze_d=steps - 1), GAN))
    assert f"use at most {steps - 1}" in problems(tiny.gan(freeze_d=steps))["freeze_d"]


def test_a_checked_document_is_not_traced_again_when_it_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    traced: list[Any] = []
    monkeypatch.setattr(trace, "_recent", [])
    original = trace.trace_step

    def counted(path: Any, spec: Any, context: Any, state: Any) -> Any:
        traced.append(spec)
        return original(path, spec, context, state)

    monkeypatch.setattr(trace, "trace_step", counted)
    spec = parse(tiny.gan(), GAN)
    check(spec)
    once = len(traced)
    spec.build()
    assert len(traced) == once > 0
    check(parse(tiny.gan(), GAN))
    assert len(traced) == once, "an equal document has an equal trace"


def test_equal_layers_in_equal_contexts_are_traced_once_and_counted_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    traced: list[Any] = []
    monkeypatch.setattr(trace, "_recent", [])
    original = trace.trace_step

    def counted(path: Any, spec: Any, context: Any, state: Any) -> Any:
        traced.append(spec.kind)
        return original(path, spec, context, state)

    monkeypatch.setattr(trace, "trace_step", counted)
    start, up = {"kind": "constant", "resolution": 4, "dim": 8}, {"kind": "upsample-linear", "dim": 8}
    spec = parse(
        generator(start, "transformer", "to-rgb", {"kind": "transformer", "repeat": 1}, up, "transformer", "to-rgb")
    )
    whole = check(spec)["generator"]
    assert traced == ["constant", "transformer", "to-rgb", "upsample-linear", "transformer", "to-rgb"]
    assert [step.path for step in whole.steps[1:]] == [("synthesis", index) for index in range(7)]
    built = spec.build()
    assert whole.parameters == sum(parameter.numel() for parameter in built.parameters())
    assert whole.image == tuple(built(torch.randn(1, 8)).shape[1:])


def start(**options: Any) -> dict[str, Any]:
    return {"kind": "constant", "resolution": 4, "dim": 8, **options}


@pytest.mark.parametrize(
    ("document", "location", "message"),
    [
        (generator(start(dim=2**31 - 1), "to-rgb"), "synthesis.0", "has features of 2147483647 x 4 x 4"),
        (generator(start(), {"kind": "upsample-linear", "repeat": 99}, "to-rgb"), "synthesis.1", "at most 2^31 - 1"),
        (generator(start(), "to-rgb", z_dim=2**31 - 1), "mapping", "3.69e+19 parameters up to here"),
        (generator(start(), "to-rgb", z_dim=10**6), "mapping", "32,000 GB in float32"),
        (generator(start(dim=10**6), "transformer", "to-rgb"), "synthesis.1", "parameters up to here"),
    ],
)
def test_networks_that_no_machine_holds_are_refused_at_once(document: Any, location: str, message: str) -> None:
    assert message in problems(document)[location]


@pytest.mark.parametrize("entry", [*catalogue.entries("synthesis-input")], ids=lambda entry: entry.block.kind)
def test_every_synthesis_input_makes_a_map_of_one_pixel(entry: Any) -> None:
    spec = parse(generator({"kind": entry.block.kind, "resolution": 1, "dim": 8}, "transformer", "to-rgb"))
    assert check(spec)["generator"].image == spec.build()(torch.randn(1, 8)).shape[1:] == (3, 1, 1)


def test_a_discriminator_alone_refuses_images_that_no_machine_holds() -> None:
    spec = parse({"kind": "layered", "steps": [{"kind": "from-rgb", "dim": 8}, "linear"]})
    with pytest.raises(IncompatibleError, match="has image of 3 x 1000000000 x 1000000000"):
        check(spec, resolution=(10**9, 10**9))
