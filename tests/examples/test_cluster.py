"""The files of docs/cluster.md parse, and start a training that `ganblocks train` accepts."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml
from accelerate.commands.config.config_args import load_config_from_file
from torch.distributed.run import get_args_parser
from typer.main import get_command

from ganblocks.cli.app import build_app

ROOT = Path(__file__).parents[2]
CLUSTER = ROOT / "examples" / "cluster"
KUBERNETES, SLURM = CLUSTER / "kubernetes.yaml", CLUSTER / "slurm.sh"


def check_torchrun(arguments: list[str]) -> None:
    """Check what follows `torchrun`."""
    parsed = get_args_parser().parse_args(arguments)
    assert parsed.module
    assert (parsed.training_script, parsed.training_script_args[0]) == ("ganblocks", "train")
    assert parsed.max_restarts == 3
    check_train(parsed.training_script_args[1:])


def check_train(arguments: list[str]) -> None:
    """Check what follows `ganblocks train`: all options exist, and a repeated job continues."""
    train = get_command(build_app()).commands["train"]  # type: ignore[attr-defined]
    parameters = train.make_context("train", list(arguments)).params
    assert parameters["resume_auto"]
    assert None not in (parameters["spec"], parameters["data"], parameters["out"])


def slurm_command() -> list[str]:
    script = SLURM.read_text().replace("\\\n", " ")
    (line,) = re.findall(r"^srun .* torchrun (.*) &$", re.sub(r'"\$(\w+)"', "2", script), re.MULTILINE)
    return shlex.split(line.replace('"$MASTER_ADDR:$MASTER_PORT"', "node0:29500"))


def test_the_slurm_script_parses() -> None:
    subprocess.run(["bash", "-n", SLURM], check=True, timeout=60)
    check_torchrun(slurm_command())
    assert "#SBATCH --signal=B:USR1@180" in SLURM.read_text()


def test_the_kubernetes_job_parses() -> None:
    job = yaml.safe_load(KUBERNETES.read_text())
    assert (job["apiVersion"], job["kind"]) == ("batch/v1", "Job")
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["command"] == ["torchrun"]
    check_torchrun(container["args"])
    assert {each["name"] for each in container["volumeMounts"]} == {each["name"] for each in pod["volumes"]}


def test_the_accelerate_config_parses() -> None:
    config = load_config_from_file(str(CLUSTER / "accelerate.yaml"))
    assert (config.num_machines, config.num_processes, config.mixed_precision) == (2, 16, "no")


@pytest.mark.parametrize("launcher", ["torchrun", "accelerate launch"])
def test_the_commands_of_the_page_parse(launcher: str) -> None:
    page = (ROOT / "docs" / "cluster.md").read_text()
    (line,) = re.findall(rf"^{launcher} (-.*)$", page, re.MULTILINE)
    if launcher == "torchrun":
        check_torchrun(shlex.split(line))
    else:
        check_train(shlex.split(line.split(" -m ganblocks train ")[1]))


def test_the_page_names_every_file() -> None:
    page = (ROOT / "docs" / "cluster.md").read_text()
    assert all(f"examples/cluster/{path.name})" in page for path in CLUSTER.iterdir())
