"""Estimates of memory, arithmetic and communication agree with what a training step needs."""

from __future__ import annotations

import json
import shlex

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from assemblies import parse, read
from ganblocks.errors import RunError, UsageError
from ganblocks.randomness import seed_step
from ganblocks.training.distributed import DistributedContext
from ganblocks.training.estimate import estimate as estimate_module
from ganblocks.training.estimate.estimate import NOTHING_FITS, WORKSPACE, estimate, measured_rate
from ganblocks.training.estimate.fitting import changes_that_fit
from ganblocks.training.estimate.gpus import GPUS
from ganblocks.training.estimate.step_costs import Observer, StepCosts, peak_bytes, step_costs
from ganblocks.training.trainer import Trainer
from plugins.open_clip import TINY
from registry.kernels import counting
from tests import tiny
from tests.cli.conftest import gan_file, ganblocks  # noqa: F401 (fixtures)
from tests.training.conftest import LAZY

GRADIENTS, ONE_STEP = 1000, {"discriminator": 1.0, "generator": 1.0}
MINI = ("mini-stylenat", "mini-styleformer", "mini-stylegan-t", "mini-vitgan")


def first_step(spec):
    """A trainer on the CPU and what its step takes; all lazy regularizers are due."""
    seed_step(0, -1)
    trainer = Trainer(spec, DistributedContext("cpu"))
    real = torch.zeros(trainer.batch_size, *trainer.generator.picture_shape)
    cond_dim = trainer.generator.cond_dim
    return trainer, (real, torch.zeros(trainer.batch_size, cond_dim) if cond_dim else None, None, None)


def measured_peak(spec):
    """The largest memory that the allocator gave out during a step, beyond what was allocated before."""
    trainer, batch = first_step(spec)
    trainer.train_step(*batch)  # allocates Adam's moments, and what kernels keep
    trainer.step = 0
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True) as profile:
        trainer.optimize(*batch)
    events = [each for each in profile.profiler.kineto_results.events() if each.name() == "[memory]"]
    live = peak = 0
    for event in sorted(events, key=lambda each: each.start_ns()):
        live += event.nbytes()
        peak = max(peak, live)
    return peak


def test_memory_of_a_step_is_within_15_percent_of_the_measured():
    spec = parse(LAZY | {"batch_size": 32})
    assert peak_bytes(spec, 32) == pytest.approx(measured_peak(spec), rel=0.15)


@pytest.mark.slow
@pytest.mark.parametrize("preset", MINI)
def test_memory_of_mini_presets_is_within_15_percent_of_the_measured(preset):
    spec = read(preset)
    assert peak_bytes(spec, spec.batch_size) == pytest.approx(measured_peak(spec), rel=0.15)


def test_operations_are_those_of_a_step():
    spec = parse(tiny.gan(regularizers=[{"kind": "bcr", "every": 3}], batch_size=8))
    trainer, batch = first_step(spec)
    counted = []
    for step in (0, 1):  # bcr is due in the first one
        trainer.step = step
        with counting(), FlopCounterMode(display=False) as counter:
            trainer.optimize(*batch)
        counted.append(counter.get_total_flops())
    costs = step_costs(spec, 8)
    assert costs.flops == pytest.approx((counted[0] + 2 * counted[1]) / 3)
    assert costs.float32_flops == 0
    assert costs.optimizer_steps == {"discriminator": pytest.approx(4 / 3), "generator": 1}


def test_lower_precision_and_smaller_passes_need_less_memory():
    spec = parse(tiny.gan(regularizers=[]))
    whole = peak_bytes(spec, 32)
    assert peak_bytes(spec, 32, "bf16") < 0.8 * whole
    assert peak_bytes(spec, 32, micro_batch=8) < 0.5 * whole


@pytest.fixture
def fixed_costs(monkeypatch):
    """Costs of a step that need no trace: 1 MB of activations per image of a pass, and 10 GFLOP per image."""

    def costs(spec, batch_size, precision="fp32", micro_batch=None):
        return StepCosts(peak(spec, batch_size, precision, micro_batch), GRADIENTS, 1e10 * batch_size, 0, ONE_STEP)

    def peak(spec, batch_size, precision="fp32", micro_batch=None):
        return GRADIENTS + 10**6 * (micro_batch or batch_size)

    monkeypatch.setattr(estimate_module, "step_costs", costs)
    monkeypatch.setattr(estimate_module, "peak_bytes", peak)


@pytest.mark.usefixtures("fixed_costs")
def test_states_have_the_bytes_of_a_trainer():
    spec = parse(tiny.gan(ema={"sigma_rel": [0.05, 0.1]}, batch_size=8))
    trainer, batch = first_step(spec)
    trainer.train_step(*batch)
    moments = [value for each in trainer.optimizers.values() for value in each.adam.state.values()]
    expected = {
        "parameters": sum(each.nbytes for each in (*trainer.gan.parameters(), *trainer.gan.buffers())),
        "optimizer": sum(each["exp_avg"].nbytes + each["exp_avg_sq"].nbytes for each in moments),
        "averages": 3 * sum(each.nbytes for each in trainer.generator.parameters()),
    }
    memory = estimate(spec).memory
    assert {name: memory[name] for name in expected} == expected
    assert memory["total"] == sum(value for name, value in memory.items() if name != "total")


@pytest.mark.usefixtures("fixed_costs")
def test_processes_share_the_batch_and_exchange_gradients():
    spec = parse(tiny.gan(batch_size=32, regularizers=[]))
    one, four = estimate(spec), estimate(spec, processes=4)
    sizes = 4 * sum(one.parameters.values())
    assert (one.communication, four.communication) == (0, round(2 * sizes * 3 / 4))
    assert four.memory["activations"] == one.memory["activations"] / 4
    assert four.flops == pytest.approx(one.flops / 4)
    sharded = estimate(spec, processes=4, strategy="fsdp")
    assert sharded.communication == round(3 * sizes * 3 / 4)
    assert sharded.memory["optimizer"] == four.memory["optimizer"] // 4
    with pytest.raises(UsageError, match="32 images do not split evenly over 5 processes"):
        estimate(spec, processes=5)


@pytest.mark.usefixtures("fixed_costs")
def test_time_follows_from_the_rate_of_a_gpu_or_a_measured_one():
    spec = parse(tiny.gan(batch_size=32, kimg=100, regularizers=[]))
    stated = estimate(spec, gpu="H100", precision="bf16")
    assert stated.flops_per_second == pytest.approx(0.3 * GPUS["h100"].flops["bf16"])
    assert stated.fits
    measured = estimate(spec, flops_per_second=stated.flops / 2)  # two seconds a step
    assert measured.kimg_per_hour == pytest.approx(0.5 * 32 * 3600 / 1000)
    assert measured.hours == pytest.approx(100 / measured.kimg_per_hour)
    with pytest.raises(UsageError, match=r"--gpu: unknown GPU 'h10'; .*h100"):
        estimate(spec, gpu="h10")


@pytest.mark.usefixtures("fixed_costs")
def test_what_does_not_fit_gets_changes_with_which_it_does(monkeypatch):
    spec = parse(tiny.gan(batch_size=32))
    fixed = estimate(spec).memory["total"] - 32e6

    def with_room_for(images):
        monkeypatch.setitem(GPUS, "h100", GPUS["h100"]._replace(memory=(fixed + images * 1e6) / 0.92))

    with_room_for(12)
    result = estimate(spec, gpu="h100")
    assert result.fits is False
    assert [line.partition(":")[0] for line in result.advice] == [
        "--micro-batch 8",
        "--set checkpoint=true --micro-batch 8",
        "--precision bf16 --micro-batch 8",
    ]
    assert {line.partition(": ")[2] for line in result.advice} == {f"{(fixed + 8e6) / 1e9:.3g} GB"}
    assert estimate(spec, gpu="h100", micro_batch=8).fits
    with_room_for(3)
    sharded = estimate(parse(tiny.gan(batch_size=32, regularizers=[])), gpu="h100", processes=8, precision="bf16")
    assert sharded.advice[-1].startswith("--strategy fsdp --micro-batch 2: ")
    second_order = estimate(spec, gpu="h100", processes=8, precision="bf16")
    assert not [change for change in second_order.changes if "strategy" in change.options]
    with pytest.raises(RunError, match=r"r1 needs second derivatives, .*; take approximate-r1"):
        estimate(spec, processes=8, strategy="fsdp")
    with_room_for(0.5)
    assert estimate(spec, gpu="h100").advice == (NOTHING_FITS,)


@pytest.mark.usefixtures("fixed_costs")
def test_the_command_trains_with_the_first_changes_that_fit(ganblocks, tmp_path, monkeypatch):  # noqa: F811
    first, second = tiny.gan(batch_size=32), tiny.gan(batch_size=16, regularizers=[])
    stages = [{"name": "low", "gan": first}, {"name": "all", "gan": second, "init_from_previous": "both"}]
    documents = {"one.json": first, "two.json": {"kind": "stages", "stages": stages}}
    fixed = estimate(parse(first)).memory["total"] - 32e6
    monkeypatch.setitem(GPUS, "h100", GPUS["h100"]._replace(memory=(fixed + 9e6) / 0.92))
    monkeypatch.chdir(tmp_path)

    def command(*arguments):
        code, out, error = ganblocks("estimate", *arguments, "--gpu", "h100", "--precision", "bf16", "--json")
        assert code == 0, error
        return json.loads(out)["command"]

    for name, document in documents.items():
        (tmp_path / name).write_text(json.dumps(document))
    one = command("one.json", "--set", "kimg=2", "--batch-size", 64)
    changes = "--set kimg=2 --set batch_size=64 --precision bf16 --micro-batch 8"
    assert one == f"ganblocks train one.json {changes} --data DATA --out RUN"
    code, out, error = ganblocks(*shlex.split(one)[1:], "--dry-run")
    assert code == 0, error
    assert "batch_size: 64" in out
    two = command("two.json", "--batch-size", 64, "--micro-batch", 32)
    assert two.split("--")[1:5] == [
        "set stages.0.gan.batch_size=64 ",
        "set stages.1.gan.batch_size=64 ",
        "precision bf16 ",
        "micro-batch 8 ",
    ]
    assert ganblocks(*shlex.split(two)[1:], "--dry-run")[0] == 0

    def checkpointed(spec, batch_size, precision="fp32", micro_batch=None):
        return GRADIENTS + (10**5 if spec.checkpoint.generator else 10**8) * (micro_batch or batch_size)

    monkeypatch.setattr(estimate_module, "peak_bytes", checkpointed)
    (tmp_path / "done").mkdir()
    (tmp_path / "one.json").rename(tmp_path / "done" / "gan.yaml")
    changes = "--set checkpoint=true --precision bf16"
    assert command("done") == f"ganblocks train done/gan.yaml {changes} --data DATA --out RUN"
    code, out, _ = ganblocks("estimate", "done", "--gpu", "h100", "--processes", 4)
    assert "train with:" in out
    assert "# in each of 4 processes" in out


@pytest.mark.usefixtures("fixed_costs")
def test_float32_convolutions_on_a_gpu_have_a_workspace(monkeypatch):
    spec = parse(tiny.gan(batch_size=8))
    costs = estimate_module.step_costs
    monkeypatch.setattr(estimate_module, "step_costs", lambda *a: costs(*a)._replace(convolves=True))
    on_gpu = {precision: estimate(spec, gpu="h100", precision=precision).memory for precision in ("fp32", "tf32")}
    assert on_gpu["fp32"]["workspace"] == WORKSPACE == on_gpu["fp32"]["total"] - on_gpu["tf32"]["total"]
    assert "workspace" not in on_gpu["tf32"]
    assert "workspace" not in estimate(spec, precision="fp32").memory


@pytest.mark.parametrize(("size", "stride", "convolves"), [(3, 1, True), (3, 2, False), (1, 1, False), (4, 4, False)])
def test_convolutions_that_may_need_a_workspace_are_found(size, stride, convolves):
    x, weight = torch.empty(1, 2, 8, 8, device="meta"), torch.empty(2, 2, size, size, device="meta")
    with Observer() as observer:
        torch.nn.functional.conv2d(x, weight, stride=stride)
    assert observer.convolves is convolves


def test_what_cannot_be_checkpointed_is_not_advised():
    spec = read("mini-vitgan")  # its discriminator has a spectral norm, which moves in each pass

    def activations(changed, precision, size):
        assert not changed.checkpoint.discriminator
        return 10**6 * size // (2 if changed.checkpoint.generator else 1)

    changes = changes_that_fit(spec, "bf16", 4, 2e6, {"now": 0}, activations)
    assert list(map(str, changes)) == ["--micro-batch 2: 0.002 GB", "--set checkpoint.generator=true: 0.002 GB"]


def test_frozen_networks_and_stages_are_estimated_without_their_weights(ganblocks, tmp_path):  # noqa: F811
    condition = {"kind": "open-clip-text", "model": TINY, "weights": "absent.pt"}
    low = tiny.gan(generator=tiny.GENERATOR | {"condition": condition}, regularizers=[], batch_size=4)
    embedded = tiny.GENERATOR | {"condition": condition | {"embed_weights": True}}
    tuned = low | {"generator": embedded, "trainable": {"mapping": False, "synthesis": False, "condition": True}}
    stages = [{"name": "low", "gan": low}, {"name": "text-encoder", "gan": tuned, "init_from_previous": "nothing"}]
    document = tmp_path / "stages.json"
    document.write_text(json.dumps({"kind": "stages", "stages": stages}))
    code, out, error = ganblocks("estimate", document, "--json")
    assert code == 0, error
    first, second = json.loads(out)["stages"].values()
    tower = second["parameters"]["generator"] - first["parameters"]["generator"]
    buffers = first["memory"]["parameters"] - 4 * (sum(first["parameters"].values()) + tower)
    assert 0 <= buffers < tower  # a frozen tower is memory, and no parameter
    assert 2 * 4 * tower <= second["memory"]["parameters"] - 4 * sum(first["parameters"].values())  # with its copy
    assert second["memory"]["optimizer"] == 8 * (tower + first["parameters"]["discriminator"])


@pytest.mark.usefixtures("fixed_costs")
def test_the_rate_of_a_run_is_that_of_its_log(finished):
    speeds = sorted(tick["images_per_second"] for tick in finished.log[1:])
    assert 1e10 * speeds[0] <= measured_rate(finished.folder) <= 1e10 * speeds[-1]


def test_the_commands_print_estimates_and_write_nothing(ganblocks, gan_file, tmp_path):  # noqa: F811
    code, out, _ = ganblocks("estimate", gan_file, "--processes", 2, "--batch-size", 16, "--gpu", "h100", "--json")
    assert code == 0
    record = json.loads(out)
    assert (record["batch_size"], record["processes"], record["fits"]) == (16, 2, True)
    before = sorted(tmp_path.rglob("*"))
    options = ["--out", tmp_path / "run", "--batch-size", 16, "--device", "cpu"]
    code, out, _ = ganblocks("train", gan_file, "--dry-run", *options)
    assert code == 0
    assert "batch_size: 16" in out
    assert "memory of a process" in out
    assert "hours in all" in out
    assert sorted(tmp_path.rglob("*")) == before
