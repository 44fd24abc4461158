"""The code blocks of docs/your-own-loop.md run in order, those of libraries that are not installed apart."""

from __future__ import annotations

import re
from importlib.util import find_spec

from tests.test_readme import ROOT, fenced

PAGE = ROOT / "docs" / "your-own-loop.md"
OPTIONAL = ("accelerate", "lightning", "timm")


def test_every_code_block_of_the_page_runs(capsys) -> None:
    namespace = {"__name__": "__main__"}
    ran = 0
    for block in fenced(PAGE.read_text(encoding="utf-8")):
        needed = [name for name in OPTIONAL if re.search(rf"\b{name}\b", block.code)]
        if block.language == "python" and all(find_spec(name) for name in needed):
            exec(compile(block.code, f"{PAGE}, line {block.line}", "exec", dont_inherit=True), namespace)
            ran += 1
    assert ran >= 2
    shares = [float(share) for share in re.findall(r"sigma \S+: (\S+) of the exact penalty", capsys.readouterr().out)]
    assert len(shares) == 3
    assert abs(shares[-1] - 1) < 0.1
