"""The model card of a generator: what it is, how it was trained and measured, and how to use it.

Mitchell et al. 2019, https://arxiv.org/abs/1810.03993; the front matter is the Hugging Face Hub's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from importlib.metadata import version
from typing import Any

import yaml

from assemblies import Generator, plugins_of
from assemblies.condition import condition_input
from ganblocks.metrics.records import flatten, short
from registry.text import printable

PIPELINES = {None: "unconditional-image-generation", "captions": "text-to-image", "classes": "text-to-image"}
METRICS = {  # columns, and the fields of a record that they show
    "metric": "metric",
    "value": "value",
    "images": "num",
    "against": "reference.name",
    "protocol": "protocol",
    "changed": "changed",
    "precision": "precision",
}
TRAINING = ("images", "step", "data", "num_images", "data_license", "seed", "precision", "processes", "device")


def model_card(
    generator: Generator,
    *,
    name: str,
    extra: Mapping[str, Any],
    metrics: Sequence[Mapping[str, Any]] = (),
    picture: str | None = None,
    license: str | None = None,
) -> str:
    """The card as Markdown with YAML front matter.

    Args:
        generator: The model.
        name: Title, and the repository in the example.
        extra: What training recorded in the model file: images, steps, data, seed, command.
        metrics: Records of `ganblocks evaluate`.
        picture: Name of a file beside the card with samples.
        license: Identifier of the model's licence, as the Hub spells it.
    """
    takes = condition_input(generator.spec)
    front: dict[str, Any] = {
        "library_name": "ganblocks",
        "pipeline_tag": PIPELINES[takes],
        "tags": ["gan", "image-generation", "ganblocks"],
    }
    if license:
        front["license"] = license
    _, height, width = generator.picture_shape
    parameters = sum(parameter.numel() for parameter in generator.parameters())
    condition = {
        None: "unconditional",
        "captions": "conditioned on captions",
        "classes": f"{generator.cond_dim} classes",
    }
    parts = [
        f"---\n{yaml.safe_dump(front, sort_keys=False)}---",
        f"# {printable(name)}",
        f"A generator of {width} x {height} px images, {condition[takes]}: {parameters:,} parameters, value "
        f"range `{generator.value_range}`.",
        f"![Samples of seeds 0, 1, 2, ... without truncation]({picture})" if picture else "",
        f"## Use\n\n```python\nimport ganblocks\n\ngenerator = ganblocks.from_pretrained({name!r})\n"
        'images = ganblocks.generate(generator, seeds=range(8))\nganblocks.save_grid(images, "samples.png", '
        f"value_range={generator.value_range!r})\n```",
        _section("Training", _training(extra)),
        _section("Metrics", _metrics(metrics)),
        "## Specification\n\nThe file `spec.json` holds it, and the metadata of `model.safetensors`.\n\n"
        f"```yaml\n{yaml.safe_dump(generator.spec.to_dict(), sort_keys=False, width=110)}```",
        _section("Made with", _table(("package", "version"), _packages(generator))),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _training(extra: Mapping[str, Any]) -> str:
    rows = [(name.replace("_", " "), extra[name]) for name in TRAINING if extra.get(name) not in (None, "")]
    return _table(("", ""), rows) if rows else "The model file does not say how the model was trained."


def _metrics(records: Sequence[Mapping[str, Any]]) -> str:
    """A table of all records, and below it each with all its fields."""
    if not records:
        return "Not measured. `ganblocks evaluate` measures a model and records how."
    flat = [flatten(record) for record in records]
    rows = [[short(record.get(name, "")) for name in METRICS.values()] for record in flat]
    parts = [_table(tuple(METRICS), rows)]
    for record in flat:
        title = escape(printable(f"{record['metric']} {short(record.get('value', ''))}: how it was measured"))
        fields = _table(
            ("field", "value"), [(name, _plain(value)) for name, value in record.items() if value is not None]
        )
        parts.append(f"<details><summary>{title}</summary>\n\n{fields}\n\n</details>")
    return "\n\n".join(parts)


def _plain(value: Any) -> Any:
    return ", ".join(map(str, value)) if isinstance(value, list) else value


def _packages(generator: Generator) -> list[tuple[str, str]]:
    return [("torch", version("torch")), *plugins_of(generator.spec).items()]


def _section(title: str, text: str) -> str:
    return f"## {title}\n\n{text}"


def _table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(_cell(value) for value in line) + " |" for line in lines)


def _cell(value: Any) -> str:
    return printable(str(value)).replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")
