"""The model card of a generator: what it is, how it was trained and measured, and how to use it.

Mitchell et al. 2019, https://arxiv.org/abs/1810.03993; the front matter is the Hugging Face Hub's.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from html import escape
from importlib.metadata import version
from typing import Any

import yaml

from assemblies import Generator, plugins_of
from assemblies.condition import condition_input
from ganblocks.errors import UsageError
from ganblocks.metrics.records import flatten, short
from registry.errors import nearest
from registry.text import excerpt, printable

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
# https://huggingface.co/docs/hub/repositories-licenses in 2026; the Hub may know more
LICENSES = (
    "afl-3.0 agpl-3.0 apache-2.0 apple-amlr apple-ascl artistic-2.0 bigcode-openrail-m bigscience-bloom-rail-1.0 "
    "bigscience-openrail-m bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear bsl-1.0 c-uda cc cc-by-2.0 cc-by-2.5 "
    "cc-by-3.0 cc-by-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 "
    "cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cc-by-nd-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc0-1.0 cdla-permissive-1.0 "
    "cdla-permissive-2.0 cdla-sharing-1.0 creativeml-openrail-m deepfloyd-if-license ecl-2.0 epl-1.0 epl-2.0 "
    "etalab-2.0 eupl-1.1 eupl-1.2 fair-noncommercial-research-license gemma gfdl gpl gpl-2.0 gpl-3.0 grok2-community "
    "h-research intel-research isc lgpl lgpl-2.1 lgpl-3.0 lgpl-lr llama2 llama3 llama3.1 llama3.2 llama3.3 llama4 "
    "lppl-1.3c mit mpl-2.0 ms-pl ncsa odbl odc-by ofl-1.1 openmdw-1.0 openmdw-1.1 openrail openrail++ osl-3.0 other "
    "pddl postgresql unknown unlicense wtfpl zlib"
).split()
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


def check_license(name: str) -> None:
    """Refuse a text that cannot be the Hub's name of a licence; one that is none of `LICENSES` is a warning.

    Raises:
        UsageError: It has other characters than these names.
    """
    if name in LICENSES:
        return
    cure = "for a licence that it lacks, pass 'other' and add its text to the repository"
    hint = f"{cure}; {nearest(name.lower(), LICENSES)}"
    if not re.fullmatch(r"[a-z0-9][a-z0-9.+-]*", name):
        raise UsageError(f"--license {excerpt(name)!r} is no licence of the Hub; {hint}")
    warnings.warn(f"--license {excerpt(name)!r}: the Hub may not know this licence; {hint}", stacklevel=2)


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
