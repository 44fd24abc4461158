"""Mutated specs are read, shown and built on the meta device, or refused by an error that says what to mend."""

from __future__ import annotations

import io
import json
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path

import pytest
import torch

from assemblies import check, parse, read
from ganblocks.cli import tables
from ganblocks.cli.show import describe_spec
from plugins.clip_towers import open_clip
from plugins.timm_networks import library
from registry import Op, Spec, catalogue, plain_data, spec_file
from registry.external_files import external_files
from tests.budget import SEED, number_of_cases
from tests.reliability.sandbox import failures, run_sandboxed, summary
from tests.reliability.specs import Mutated, documents, mutated_spec

SHARDS = 2


@pytest.mark.slow
@pytest.mark.parametrize("shard", range(SHARDS))
def test_mutated_specs_are_used_or_refused(tmp_path: Path, shard: int) -> None:
    catalogue.load()
    for op in Op.ops.values():
        op.bind()  # compiles kernels here, since the sandbox starts no programs
    library(), open_clip()
    sources = documents()
    for name in ("tiny-gan", "example-gan-gan-0"):
        show_and_build(Mutated("", b"", sources[name]), tmp_path)  # imports what is imported when it is first used
    indices = range(shard, number_of_cases(250, 10_000), SHARDS)
    cases = [(f"spec {index}", partial(mutated_spec, SEED, index, sources)) for index in indices]
    outcomes = run_sandboxed(partial(show_and_build, folder=tmp_path), cases)
    print(summary(outcomes))
    assert failures(outcomes) == []
    used = sum(outcome.kind == "used" for outcome in outcomes) / len(outcomes)
    assert 0.1 < used < 0.9, "mutations are neither always nor never valid"


def show_and_build(mutated: Mutated, folder: Path) -> None:
    """Read, check, show, write and build a spec as the commands do."""
    with external_files(allowed=False):
        if mutated.file:
            path = folder / mutated.file
            path.write_bytes(mutated.content)
            spec = read(path)
            summary = describe_spec(path, resolution=16)
            with redirect_stdout(io.StringIO()) as shown:
                tables.print_steps(summary)
            assert "\x1b[2J" not in shown.getvalue()
        else:
            spec = parse(mutated.data)
            check(spec, resolution=(16, 16))
        assert parse(plain_data.parse(spec_file.to_yaml(spec))) == spec
        assert parse(json.loads(json.dumps(spec.to_dict(), allow_nan=False))) == spec
        with torch.device("meta"):
            build(spec)


def build(spec: Spec) -> None:
    if spec.block.family_name == "multi-stage":
        for stage in spec.stages:
            build(stage.gan)
    elif spec.block.family_name == "discriminator":
        spec.build(resolution=(16, 16), image_channels=3, cond_dim=0, value_range="symmetric")
    else:
        spec.build()
