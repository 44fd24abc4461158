"""Control sequences never reach the terminal, and no text is longer than a few screens."""

from __future__ import annotations

import pytest

from ganblocks.cli import tables
from ganblocks.cli.app import leave
from registry.text import printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain äöü 図", "plain äöü 図"),
        ("two\nlines\tand a tab", "two\nlines\tand a tab"),
        ("\x1b[31mred\x1b]0;title\x07", "\\x1b[31mred\\x1b]0;title\\x07"),
        ("carriage\rreturn", "carriage\\rreturn"),
        ("right-to-left \u202e", "right-to-left \\u202e"),
        ("surrogate \udc80", "surrogate \\udc80"),
    ],
)
def test_control_characters_are_escaped(text, shown):
    assert printable(text) == shown


def test_long_texts_are_cut_and_say_so():
    assert printable("a" * 10**6).endswith("a... (1,000,000 characters)")
    assert len(printable("a" * 10**6)) < 2100
    assert printable("x\n" * 1000).endswith("... and 801 more lines")


def test_errors_and_tables_are_escaped(capsys):
    with pytest.raises(SystemExit):
        leave("bad \x1b[2J name", 2)
    tables.print_presets([{"preset": "evil\x1b[2J", "summary": "a \x07 bell"}])
    captured = capsys.readouterr()
    assert "\x1b" not in captured.err + captured.out
    assert "evil\\x1b[2J" in captured.out
