"""The commands that this package registers, as another package would."""

from __future__ import annotations

from ganblocks.cli.blocks import blocks, init, new_plugin, presets, schema
from ganblocks.cli.convert import convert
from ganblocks.cli.data import data
from ganblocks.cli.diff import diff
from ganblocks.cli.doctor import doctor
from ganblocks.cli.evaluate import compare, evaluate
from ganblocks.cli.latents import directions, edit, project
from ganblocks.cli.publishing import demo, export, pull, push, report
from ganblocks.cli.sample import attention_maps, interpolate, sample, style_mix, truncation
from ganblocks.cli.show import estimate, show
from ganblocks.cli.train import average, train
from registry import RegisterCommand, hookimpl


@hookimpl
def register_commands(register: RegisterCommand) -> None:
    register("train", train)
    register("average", average)
    register("sample", sample)
    register("truncation", truncation)
    register("style-mix", style_mix)
    register("interpolate", interpolate)
    register("attention-maps", attention_maps)
    register("directions", directions)
    register("edit", edit)
    register("project", project)
    register("evaluate", evaluate)
    register("compare", compare)
    register("data", data)
    register("convert", convert)
    register("report", report)
    register("export", export)
    register("demo", demo)
    register("push", push)
    register("pull", pull)
    register("show", show)
    register("estimate", estimate)
    register("diff", diff)
    register("blocks", blocks)
    register("presets", presets)
    register("init", init)
    register("schema", schema)
    register("new-plugin", new_plugin)
    register("doctor", doctor)
