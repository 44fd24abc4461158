"""Specs: one signature is context, options, schema and documentation; Python, YAML and JSON are the same data."""

from __future__ import annotations

import inspect
import json
import os
import pickle
import pydoc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import PositiveInt
from torch import Tensor

from blocks.families import Attention, Layer
from registry import IncompatibleError, Slot, SpecValidationError, collecting
from registry.limits import MAX_INTEGER
from registry.spec_file import read, validate, write, write_atomically, write_tensors
from tests.toys import TOYS, Rates, ToyAttention, ToyFeedForward, ToyLayer, ToyNorm, installed

positive = st.floats(min_value=1e-12, max_value=1e12)
integers = st.integers(-MAX_INTEGER, MAX_INTEGER)
texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)
odd = st.integers(0, 50).map(lambda number: 2 * number + 1)
attentions = st.builds(
    ToyAttention.Spec,
    num_heads=st.integers(1, 64),
    window=st.integers(1, 9) | st.tuples(st.integers(1, 9), st.integers(1, 9)),
    kernel_sizes=st.lists(odd, max_size=3),
)
norms = st.builds(ToyNorm.Spec)
layers = st.builds(
    ToyLayer.Spec,
    attention=attentions,
    norm=st.none() | norms,
    parts=st.lists(attentions | norms, max_size=3),
    mode=st.sampled_from(["first", "second"]),
    rates=st.builds(Rates, fast=positive, slow=positive),
    reach=integers | st.lists(integers, max_size=3).map(tuple),
    gain=st.none() | st.floats(allow_nan=False, allow_infinity=False),
    notes=st.dictionaries(texts, texts, max_size=2),
    repeat=st.integers(1, 9),
)


@pytest.fixture(autouse=True, scope="module")
def _toys() -> Iterator[None]:
    with installed(*TOYS):
        yield


@settings(deadline=None, max_examples=60)  # writing files may take long on a busy disk
@given(layers)
def test_python_yaml_json_and_pickle_are_the_same_spec(tmp_path_factory: pytest.TempPathFactory, spec: Any) -> None:
    folder = tmp_path_factory.getbasetemp()
    for name in ("spec.yaml", "spec.json"):
        write(spec, folder / name)
        assert read(folder / name, Layer) == spec
    assert ToyLayer.Spec.model_validate(spec.to_dict()) == spec
    assert pickle.loads(pickle.dumps(spec)) == spec
    assert eval(repr(spec)) == spec


def test_a_slot_takes_a_spec_a_mapping_a_kind_or_a_class() -> None:
    ways: list[Any] = [ToyAttention.Spec(), {"kind": "toy-attention"}, "toy-attention", ToyAttention]
    assert len({repr(ToyLayer.Spec(attention=way)) for way in ways}) == 1
    assert all(ToyLayer.Spec(attention=way) == ToyLayer.Spec() for way in ways)


def test_repr_shows_what_differs_from_the_defaults() -> None:
    assert (
        repr(ToyLayer.Spec(parts=["toy-attention"], attention={"kind": "toy-attention", "window": 4}))
        == "ToyLayer.Spec()"
    )
    changed = ToyLayer.Spec(attention={"kind": "toy-attention", "num_heads": 2}, rates=Rates(fast=1.0))
    assert repr(changed) == "ToyLayer.Spec(attention=ToyAttention.Spec(num_heads=2), rates=Rates(fast=1.0, slow=0.25))"
    assert repr(ToyFeedForward.Spec(ratio=4)) == "ToyFeedForward.Spec(ratio=4.0)"


def test_a_written_spec_names_every_option_and_its_kind(tmp_path: Path) -> None:
    write(ToyLayer.Spec(), tmp_path / "spec.json")
    data = json.loads((tmp_path / "spec.json").read_text())
    assert data["kind"] == "toy-layer"
    assert set(data) == set(ToyLayer.Spec.model_fields)
    assert data["attention"] == {"kind": "toy-attention", "num_heads": 4, "window": [4, 4], "kernel_sizes": [3, 5]}


def test_specs_are_frozen_and_compare_by_value() -> None:
    spec = ToyAttention.Spec(num_heads=2)
    with pytest.raises(ValueError, match="frozen"):
        spec.num_heads = 3
    assert spec == ToyAttention.Spec(num_heads=2)
    assert len({spec, ToyAttention.Spec(num_heads=2), ToyAttention.Spec()}) == 2


def test_options_are_documented_by_the_docstring() -> None:
    fields = ToyAttention.Spec.model_fields
    assert fields["num_heads"].description == "Heads that share the channels evenly."
    assert ToyAttention.Context.model_fields["dim"].description == "Channels C of the map."
    assert list(ToyAttention.Context.model_fields) == ["dim", "resolution"]


def test_a_block_is_a_module_that_keeps_its_spec() -> None:
    block = ToyAttention(16, 8, num_heads=2)
    assert block.spec == ToyAttention.Spec(num_heads=2)
    again = block.spec.build(dim=16, resolution=(8, 8), style_dim=12)  # unused context is ignored
    assert block(torch.zeros(1, 8, 8, 16)).shape == again(torch.zeros(1, 8, 8, 16)).shape


def test_inspect_and_help_show_the_parameters_of_init() -> None:
    parameters = inspect.signature(ToyAttention).parameters
    assert list(parameters) == ["dim", "resolution", "num_heads", "window", "kernel_sizes"]
    assert parameters["num_heads"].default == 4
    assert parameters["num_heads"].kind is inspect.Parameter.KEYWORD_ONLY
    assert "ToyAttention(dim: 'int', resolution: 'Resolution', *, num_heads" in pydoc.plain(
        pydoc.render_doc(ToyAttention)
    )
    assert list(inspect.signature(ToyAttention(8, 4)).parameters) == ["args", "kwargs"]  # that of nn.Module.__call__


def test_a_renamed_option_is_read_by_its_former_name() -> None:
    class Renamed(Attention, kind="renamed"):
        """Has an option that was called heads.

        Args:
            num_heads: Number of heads.
        """

        renamed_options = {"heads": "num_heads"}

        def __init__(self, *, num_heads: PositiveInt = 4) -> None:
            super().__init__()

    assert Renamed.Spec(heads=2) == Renamed.Spec(num_heads=2)
    assert Renamed(heads=2).spec.to_dict() == {"kind": "renamed", "num_heads": 2}
    with installed(Renamed):
        assert validate({"kind": "renamed", "heads": 2}, Attention).num_heads == 2
        with pytest.raises(
            SpecValidationError, match="heads   is the former name of num_heads, which is set too; omit heads"
        ):
            validate({"kind": "renamed", "heads": 2, "num_heads": 2}, Attention)
    with pytest.raises(TypeError, match="renamed_options: dim; it maps former names to options"):
        type("Wrong", (Renamed,), {"renamed_options": {"size": "dim"}}, kind="wrong")


def test_another_version_of_a_package_is_a_warning_and_part_of_errors() -> None:
    made_with = {"pluggy": "0.1", "no-such-package": "1.0"}
    with (
        installed(ToyAttention),
        pytest.warns(
            match="mine.yaml was made with pluggy 0.1, and .* here; for the same results: pip install pluggy==0.1"
        ),
    ):
        validate({"kind": "toy-attention"}, Attention, subject="mine.yaml", plugins=made_with)
    with installed(ToyAttention), pytest.raises(SpecValidationError) as error:
        validate({"kind": "no-such-kind"}, Attention, plugins=made_with)
    kind, version = error.value.problems
    assert (
        "(the document was made with no-such-package 1.0, not installed here: pip install no-such-package)"
        in kind.message
    )
    assert version.location == "plugins.pluggy"
    assert version.message.startswith("with pluggy 0.1, and ")


def test_all_invalid_options_are_reported_at_once_with_paths_and_cures() -> None:
    document = {
        "kind": "toy-layer",
        "attention": {"kind": "toy-attention", "num_head": 2, "kernel_sizes": [3, 4]},
        "parts": ["toy-norm", {"kind": "toy-attention", "window": [1, 2, 3]}, "toy-attentoin"],
        "norm": "toy-attention",
        "mode": "third",
        "rates": {"fast": 0, "slwo": 1},
        "reach": "far",
        "gain": "much",
        "repeat": 0,
        "repeats": 2,
    }
    with pytest.raises(SpecValidationError) as caught:
        validate(document, Layer, subject="my-layer.yaml")
    data = {problem.location: problem.message for problem in caught.value.problems}
    missing = " (if another package provides it: pip install PACKAGE)"
    assert data.pop("parts.2").startswith("unknown attention or norm 'toy-attentoin'; did you mean 'toy-attention'")
    assert data.pop("norm").startswith("unknown norm 'toy-attention', which is a kind of attention; did")
    assert data == {
        "repeat": "should be greater than 0, not 0",
        "attention.kernel_sizes.1": "should be odd, so that the window has a centre, not 4; take 3 or 5",
        "attention.num_head": "toy-attention has no such option; did you mean 'num_heads'?",
        "parts.1.window": "should have at most 2 items, not [1, 2, 3]",
        "mode": "should be 'first' or 'second', not 'third'",
        "rates.fast": "should be greater than 0, not 0",
        "rates.slwo": "rates has no such option; did you mean 'slow'?",
        "reach": "should be a valid integer, not 'far' or should be a list, not 'far'",
        "gain": "should be a valid number, not 'much'",
        "repeats": "toy-layer has no such option; did you mean 'repeat', 'rates' or 'parts'?",
    }
    text = str(caught.value)
    assert text.splitlines()[0] == "my-layer.yaml is not valid (12 problems)"
    assert "  rates.fast                 should be greater than 0, not 0" in text.splitlines()
    assert missing in text
    assert not any(noise in text for noise in ("pydantic", "input_type", "type=", "For further information"))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: ToyAttention.Spec(num_heads=0),
            "ToyAttention.Spec is not valid (1 problem)\n  num_heads   should be greater",
        ),
        (
            lambda: ToyAttention(16, 8, num_head=2),
            "ToyAttention is not valid (1 problem)\n  num_head   toy-attention has no",
        ),
        (lambda: ToyAttention(16), "ToyAttention is not valid (1 problem)\n  resolution   is required"),
        (lambda: ToyAttention(16, "large"), "ToyAttention is not valid (1 problem)\n  resolution   should be a list"),
        (lambda: ToyFeedForward.Spec(), "ToyFeedForward.Spec is not valid (1 problem)\n  ratio   is required"),
        (
            lambda: ToyLayer.Spec(attention=ToyNorm.Spec()),
            "toy-norm is of family norm; this option takes attention",
        ),
        (
            lambda: ToyLayer.Spec(attention=None),
            "attention   should be a block of family attention: its kind, or a mapping",
        ),
        (lambda: ToyLayer.Spec(attention={"num_heads": 2}), "or a mapping with `kind`, not {'num_heads': 2}"),
        (lambda: ToyLayer.Spec(parts="toy-norm"), "parts   should be a list, not 'toy-norm'"),
        (lambda: ToyLayer.Spec(notes={"{a}": 1}), "notes.{a}   should be a valid string, not 1"),
    ],
)
def test_an_invalid_argument_is_a_plain_validation_error(make: Any, message: str) -> None:
    with pytest.raises(SpecValidationError) as caught:
        make()
    assert message in str(caught.value)
    assert "input_type" not in str(caught.value)


def test_an_incompatible_option_is_named_through_all_slots() -> None:
    with pytest.raises(IncompatibleError) as caught:
        ToyLayer(18, 8, parts=["toy-norm", "toy-attention"])
    assert str(caught.value) == (
        "ToyLayer does not fit together (1 problem)\n"
        "  attention.num_heads   18 channels do not split evenly over 4 heads"
    )


def test_incompatible_slots_are_collected_where_a_pass_through_can_replace_them() -> None:
    with collecting() as problems:
        ToyLayer(18, 8, parts=["toy-norm", "toy-attention"])
    assert [problem.location for problem in problems] == ["attention.num_heads", "parts.1.num_heads"]


def test_an_error_about_missing_context_lists_what_is_available() -> None:
    with pytest.raises(IncompatibleError, match=r"toy-attention needs resolution \(available here: dim\)"):
        ToyAttention.Spec().build(dim=16, resolution=None)


def test_a_kind_that_is_registered_later_is_validated_as_strictly() -> None:
    class Late(Attention, kind="late"):
        """Registered after the slot was declared.

        Args:
            dim: Channels C of the map.
            reach: A number.
        """

        def __init__(self, dim: int, *, reach: int = 1) -> None:
            super().__init__()

    with pytest.raises(SpecValidationError, match="unknown attention 'late'"):
        ToyLayer.Spec(attention="late")
    with installed(Late):
        assert ToyLayer.Spec(attention="late").attention == Late.Spec()
        with pytest.raises(
            SpecValidationError, match=r"attention\.reahc   late has no such option; did you mean 'reach'"
        ):
            ToyLayer.Spec(attention={"kind": "late", "reahc": 2})
    with pytest.raises(SpecValidationError, match="unknown attention 'late'"):
        ToyLayer.Spec(attention="late")


@pytest.mark.parametrize(
    ("signature", "message"),
    [
        ("self, dim: int, *args", "declare each option by name"),
        ("self, dim, *, num_heads: int = 1", "dim has no annotation"),
        ("self, dim: int, *, repeat: int = 1", "repeat is a field of every layer spec"),
        ("self, dim: int, *, kind: str = 'x'", "kind is a field of every layer spec"),
        ("self, dim: int, *, like: Tensor", r"schema for <class 'torch.Tensor'>; an option is a number, a text, "),
    ],
)
def test_a_signature_that_breaks_the_keyword_only_rule_fails_at_once(signature: str, message: str) -> None:
    names: dict[str, Any] = {"Tensor": Tensor}
    exec(f"def __init__({signature}): pass", names)
    with pytest.raises(TypeError, match=message):
        type(Layer)("Wrong", (Layer,), {"__init__": names["__init__"], "__module__": __name__}, kind="wrong")


def test_a_kind_is_lower_case_words_and_a_family_is_declared_once() -> None:
    with pytest.raises(TypeError, match="lower-case words joined by hyphens"):
        type(Layer)("Wrong", (Layer,), {}, kind="Not_A_Kind")
    with pytest.raises(TypeError, match=r"family 'attention' is declared by blocks\.families\.networks and again by"):
        type(Layer)("Attention", (Layer,), {"__module__": "elsewhere"}, family="attention")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.yaml", b"kind: [toy-layer\nrepeat: 1", "is neither YAML nor JSON: line 2, column 7"),
        ("a.json", b'{"kind": "toy-layer",}', "is not JSON: line 1, column 22"),
        ("a.yaml", b"just words", "a spec is a mapping with `kind`, not str"),
        ("a.yaml", b"", "a spec is a mapping with `kind`, not NoneType"),
        ("a.yaml", b"\xff\xfe\x00\x89PNG", "is not a text file"),
        ("a.yaml", b"repeat: 1", "(top)   should be a block of family layer"),
        ("a.yaml", b"kind: toy-laier", "(top)   unknown layer 'toy-laier'; did you mean 'toy-layer'"),
        ("a.yaml", b"kind: toy-layer\nrepeat: yes please", "repeat   should be a valid integer, not 'yes please'"),
    ],
)
def test_an_invalid_file_is_reported_with_its_position(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SpecValidationError) as caught:
        read(tmp_path / name, Layer)
    assert message in str(caught.value)
    assert name in str(caught.value)


def test_json_with_tabs_and_a_byte_order_mark_reads(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b'\xef\xbb\xbf{\n\t"kind": "toy-layer",\n\t"gain": 1e-8\n}')
    assert read(tmp_path / "a.json", Layer) == ToyLayer.Spec(gain=1e-8)
    (tmp_path / "a.yaml").write_text("kind: toy-layer\ngain: 1e-8\n")  # a string to YAML 1.1
    assert read(tmp_path / "a.yaml", Layer) == ToyLayer.Spec(gain=1e-8)


def test_a_slot_type_prints_by_its_families() -> None:
    assert "Slot[Attention | Norm]" in repr(Slot[Attention | ToyNorm.family])


def test_a_file_is_on_the_disk_before_it_replaces_the_old_one(tmp_path, monkeypatch):
    calls, sync, replace = [], os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda file: calls.append(os.fstat(file).st_ino) or sync(file))
    monkeypatch.setattr(os, "replace", lambda old, new: calls.append(old.stat().st_ino) or replace(old, new))
    write_atomically(tmp_path / "file", b"content")
    write_tensors(tmp_path / "tensors", {"a": torch.zeros(2)}, {})
    inodes = [(tmp_path / name).stat().st_ino for name in ("file", "tensors")]
    assert calls == [inodes[0], inodes[0], inodes[1], inodes[1]]


def test_an_error_names_the_file_not_the_temporary_one(tmp_path):
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "folder", tmp_path / "absent" / "file"):
        with pytest.raises(OSError, match=rf": '{path}'$"):
            write_atomically(path, b"content")
    assert list(tmp_path.iterdir()) == [tmp_path / "folder"]
