"""Stages that are trained one after the other, and generators of which a part is trained."""

from __future__ import annotations

import re

import pytest
import torch
from safetensors.torch import load_file

from assemblies import CheckpointError, check, parse
from assemblies.training_options import PHASES, Trainable
from ganblocks import load, train
from ganblocks.cli.show import describe_spec
from ganblocks.errors import DataError, Interrupted, RunError
from ganblocks.metrics.compare import records_of
from ganblocks.metrics.records import append_records
from ganblocks.publishing.hub import save_pretrained
from ganblocks.publishing.report import report
from ganblocks.sampling.load import run_of
from ganblocks.training import loop
from ganblocks.training.estimate.estimate import measured_rate
from ganblocks.training.run.averages import average
from plugins.open_clip import TINY
from registry import IncompatibleError, SpecValidationError
from tests import tiny
from tests.training.conftest import clip_condition, different_tensors, log_records

LOW = tiny.GENERATOR | {"synthesis": tiny.GENERATOR["synthesis"][:-3]}  # up to its image head at 8 pixels
STEPS = {"kimg": 0.016, "batch_size": 8}
STAGES = {
    "kind": "stages",
    "stages": [
        {"name": "low", "gan": tiny.gan(generator=LOW, **STEPS)},
        {
            "name": "high",
            "gan": tiny.gan(trainable={"mapping": False, "above": 8}, **STEPS),
            "init_from_previous": "generator",
        },
    ],
}
QUIET = {"log_every_kimg": 0.008, "save_every_seconds": 0, "quiet": True, "workers": 0}


def trainable_parameters(generator):
    return {name for name, parameter in generator.named_parameters() if parameter.requires_grad}


def test_a_phase_names_the_parts_that_are_trained(clip_weights):
    condition = clip_condition(clip_weights, embed_weights=True)
    document = tiny.gan(generator=tiny.GENERATOR | condition, trainable="text-encoder")
    spec = parse(document)
    assert spec.trainable == Trainable(mapping=False, synthesis=False, condition=True)
    assert parse(spec.to_dict()) == spec
    assert {name.partition(".")[0] for name in trainable_parameters(spec.build().generator)} == {"condition"}
    assert parse(tiny.gan(trainable="all")).trainable == Trainable()
    with pytest.raises(SpecValidationError, match=f"unknown phase 'freeze'; valid: {', '.join(PHASES)}"):
        parse(tiny.gan(trainable="freeze"))


def test_steps_of_low_resolution_are_frozen_except_image_heads():
    generator = parse(tiny.gan(trainable={"mapping": False, "above": 8})).build().generator
    steps = {int(name.split(".")[1]) for name in trainable_parameters(generator)}
    # 0 input and 1 transformer at 4 pixels, 2 upsampling to 8, 3 image head, 4 transformer at 8, 5 upsampling to 16
    assert steps == {3, 5, 6}
    assert not {name for name in trainable_parameters(generator) if name.startswith("mapping")}


def test_a_frozen_tower_cannot_be_trained(clip_weights):
    document = tiny.gan(generator=tiny.GENERATOR | clip_condition(clip_weights), trainable="text-encoder")
    with pytest.raises(IncompatibleError, match=re.escape("embed_weights: true")):
        check(parse(document))
    with pytest.raises(IncompatibleError, match="no part of the generator is trained"):
        check(parse(tiny.gan(trainable={"mapping": False, "synthesis": False})))


def test_a_text_encoder_is_trained_while_others_receive_its_first_embeddings(clip_weights, tmp_path):
    guidance = {"kind": "clip-guidance", "model": TINY, "weights": str(clip_weights), "weight": 5.0}
    document = tiny.gan(
        generator=tiny.GENERATOR | clip_condition(clip_weights, embed_weights=True),
        trainable="text-encoder",
        regularizers=[guidance],
        generator_optimizer={"lr": 1e-2},
    )
    whole = train(document, "digits", tmp_path / "whole", kimg=0.032, **QUIET)
    train(document, "digits", tmp_path / "parts", kimg=0.016, **QUIET)
    train(None, None, tmp_path / "parts", kimg=0.032, resume=True, **QUIET)
    assert different_tensors(tmp_path / "parts", tmp_path / "whole") == []
    initial = load_file(clip_weights)
    tower = whole.generator.condition.tower.state_dict()
    assert not torch.equal(tower["text_projection"], initial["text_projection"])
    model = load_file(tmp_path / "whole" / "model.safetensors")
    assert torch.equal(model["condition.tower.text_projection"], tower["text_projection"])


def test_stages_that_do_not_fit_are_listed():
    traces = check(parse(STAGES))
    assert [(name, trace.image) for name, trace in traces.items() if "generator" in name] == [
        ("low.generator", (3, 8, 8)),
        ("high.generator", (3, 16, 16)),
    ]
    first, second = STAGES["stages"]
    with pytest.raises(
        IncompatibleError,
        match=r"stages.1.init_from_previous +the generator of the previous stage has .* which this stage's",
    ):
        check(parse(STAGES | {"stages": [second, first | {"init_from_previous": "generator"}]}))
    with pytest.raises(IncompatibleError, match=r"this stage's discriminator lacks; only add steps at its front"):
        check(parse(STAGES | {"stages": [first, second | {"init_from_previous": "both"}]}))
    with pytest.raises(IncompatibleError, match=r"stages.1.name\s+low names two stages, and each has its own"):
        check(parse(STAGES | {"stages": [first, second | {"name": "low"}]}))
    broken = tiny.gan(generator=LOW | {"synthesis": LOW["synthesis"][:1] + LOW["synthesis"][-1:]}, freeze_d=99)
    with pytest.raises(IncompatibleError, match=r"stages.0.gan.freeze_d"):
        check(parse(STAGES | {"stages": [{"name": "only", "gan": broken}]}))


def test_stages_are_trained_one_after_the_other(tmp_path):
    first, second = STAGES["stages"]
    broken = STAGES | {"stages": [first, second | {"gan": second["gan"] | {"freeze_d": 99}}]}
    with pytest.raises(IncompatibleError, match=r"stages\.1\.gan\.freeze_d"):
        train(broken, "digits", tmp_path / "run", **QUIET)  # before the first stage is trained
    with pytest.raises(DataError, match="no folder or file"):
        train(STAGES, tmp_path / "absent", tmp_path / "run", **QUIET)
    run = train(STAGES, "digits", tmp_path / "run", **QUIET)
    assert run.folder == tmp_path / "run" / "2-high"
    assert run.generator.resolution == (16, 16)
    low, high = (load_file(tmp_path / "run" / name / "model.safetensors") for name in ("1-low", "2-high"))
    changed = {name for name in low if not torch.equal(low[name], high[name])}
    # the image head is trained, and the mean style is still tracked
    assert changed == {"synthesis.3.weight", "synthesis.3.bias", "mapping.w_avg"}
    assert set(low) < set(high)
    assert describe_spec(tmp_path / "run" / "multi_stage.yaml")["totals"]["high.generator"]["parameters"] > 0
    with pytest.raises(RunError, match="holds runs of stages already; continue them with --resume"):
        train(STAGES, "digits", tmp_path / "run", **QUIET)
    with pytest.raises(RunError, match="was started with another multi-stage document"):
        train(STAGES | {"stages": STAGES["stages"][:1]}, "digits", tmp_path / "run", resume=True, **QUIET)
    with pytest.raises(RunError, match="--kimg: each stage has its own kimg"):
        train(STAGES, "digits", tmp_path / "other", kimg=1, **QUIET)


def test_commands_take_the_last_stage_that_has_a_model(tmp_path, capsys):
    folder = tmp_path / "run"
    high = train(STAGES, "digits", folder, **QUIET).folder
    line = f"{folder} holds the runs of several stages; taking the last one with a model: {high}\n"
    capsys.readouterr()
    assert load(folder).resolution == (16, 16)
    assert capsys.readouterr() == ("", line)
    assert report(folder) == high / "report.html"
    save_pretrained(folder, tmp_path / "card")
    assert "| images | 16 |" in (tmp_path / "card" / "README.md").read_text()
    append_records(high / "metrics.jsonl", [{"metric": "fid", "model": {"file": "model.safetensors"}}])
    assert [record["metric"] for record in records_of(folder)] == ["fid"]
    assert measured_rate(folder) > 0
    with pytest.raises(RunError, match=f"{high} has no snapshots"):
        average(folder, 0.1)
    assert capsys.readouterr().err == line * 5
    gan = STAGES["stages"][1]["gan"]
    for source in (folder, high):
        out = tmp_path / f"from-{source.name}"
        train(gan, "digits", out, init_generator=source, init_discriminator=source, **QUIET)
    assert different_tensors(tmp_path / "from-run", tmp_path / "from-2-high") == []
    assert capsys.readouterr().err == line * 2
    (high / "model.safetensors").unlink()
    assert load(folder).resolution == (8, 8)
    assert capsys.readouterr().err == line.replace("2-high", "1-low")
    (folder / "1-low").rename(folder / "10-low")
    (high / "model.safetensors").write_bytes((folder / "10-low" / "model.safetensors").read_bytes())
    assert run_of(folder) == folder / "10-low"
    (folder / "multi_stage.yaml").unlink()
    with pytest.raises(CheckpointError, match=r"run has no model\.safetensors: it is not a run folder"):
        load(folder)  # numbered runs of other trainings


def test_stages_resume_where_they_stopped(tmp_path):
    train(STAGES, "digits", tmp_path / "whole", **QUIET)
    first = STAGES["stages"][0]["gan"]
    folder = tmp_path / "parts"
    train(first, "digits", folder / "1-low", kimg=0.008, **QUIET)  # as if stopped in the first stage
    train(STAGES, "digits", folder, resume=True, **QUIET)
    again = train(None, None, folder, resume=True, **QUIET)
    assert different_tensors(folder / "2-high", tmp_path / "whole" / "2-high") == []
    assert again.folder == folder / "2-high"


@pytest.mark.parametrize("stage", [0, 1])
def test_the_command_that_resumes_a_stage_resumes_all(tmp_path, monkeypatch, stage):
    train(STAGES, "digits", tmp_path / "whole", seed=3, **QUIET)
    original, stages = loop.TrainingLoop.__init__, []

    def stopped(self, *args, **options):
        original(self, *args, **options)
        stages.append(self)
        if len(stages) == stage + 1:
            self.target = self.first + 8  # as if a signal came after one step
            self.spec = self.spec.model_copy(update={"kimg": 0.008})

    with monkeypatch.context() as patch:
        patch.setattr(loop.TrainingLoop, "__init__", stopped)
        patch.setattr(loop.StopSignal, "received", property(lambda _: len(stages) == stage + 1))
        with pytest.raises(Interrupted, match=f"ganblocks train --resume --out {tmp_path / 'parts'} --workers 0"):
            train(STAGES, "digits", tmp_path / "parts", seed=3, **QUIET)
    train(None, None, tmp_path / "parts", resume=True, **QUIET)
    assert different_tensors(tmp_path / "parts" / "2-high", tmp_path / "whole" / "2-high") == []
    assert log_records(tmp_path / "parts" / "2-high")[0]["seed"] == 3
