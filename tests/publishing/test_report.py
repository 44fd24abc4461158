"""The page of a run shows what the run's files say, needs no network, and works in a browser."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html import unescape
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from ganblocks.errors import RunError
from ganblocks.publishing.curves import MAX_POINTS, line_chart, ticks
from ganblocks.publishing.report import report
from ganblocks.training.train import train
from tests import tiny

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "a <b> run"
    options = {"kimg": 0.032, "log_every_kimg": 0.008, "quiet": True, "device": "cpu", "command": "ganblocks train <x>"}
    train(tiny.gan(), "digits", folder, **options)
    record = {"metric": "fid", "value": 12.5, "reference": {"name": "digits", "count": 1437}}
    with (folder / "log.jsonl").open("a") as log:
        for event in ({"event": "metric", "metric": "fid", "images": 8}, {"event": "data", "text": "one note"}):
            log.write(json.dumps(event) + "\n")
        log.write(json.dumps({"event": "non-finite", "times": 3}) + "\n")
    (folder / "metrics.jsonl").write_text(json.dumps(record) + "\n")
    return folder


class Balanced(HTMLParser):
    VOID = ("meta", "img", "input")

    def __init__(self):
        super().__init__()
        self.open, self.links = [], []

    def handle_starttag(self, tag, attributes):
        self.links += [value for name, value in attributes if name in ("src", "href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_shows_the_files_of_the_run(run):
    page = report(run).read_text()
    parser = Balanced()
    parser.feed(page)
    assert not parser.open
    assert not [link for link in parser.links if not link.startswith("data:")]
    assert "http" not in page.replace("http://www.w3.org", "")
    assert "a &lt;b&gt; run" in page
    assert "<b>" + "0.032 kimg of 0.032" in page
    last = [each for each in map(json.loads, (run / "log.jsonl").read_text().splitlines()) if each["event"] == "tick"][
        -1
    ]
    for name, value in last["losses"].items():
        assert f"{name.rpartition('/')[2]} <b>{value:.4g}</b>" in page
    assert "metric fid, value 12.5" in page
    assert '<p class="soft">data: text one note</p>' in page
    assert '<p class="warn">non-finite: times 3</p>' in page
    assert '<p class="warn">metric' not in page
    assert "ganblocks train &lt;x&gt;" in page
    assert all(kind in page for kind in ("hydra-na", "minibatch-std", "diffaugment"))
    pictures = json.loads(re.search(r'id="pictures">(.*?)</script>', page).group(1))
    assert [name for name, _ in pictures] == [
        f"{float(path.name[:-8]):g} kimg" for path in sorted((run / "samples").glob("*.png"))
    ]


def test_a_run_without_log_lines_has_a_page(tmp_path):
    (tmp_path / "run.json").write_text("{}")
    page = report(tmp_path, tmp_path / "pages" / "page.html").read_text()
    assert all(text in page for text in ("No samples yet", "No log lines yet", "Not measured"))
    assert report(tmp_path, tmp_path / "pages") == tmp_path / "pages" / "report.html"
    with pytest.raises(RunError, match="has no run in it"):
        report(tmp_path / "pages")


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-3.2, 17), (1e-7, 3e-7), (5, 5), (0, 0), (-1e9, 1e9)])
def test_ticks_are_round_and_cover_the_range(low, high):
    values = ticks(low, high)
    steps = np.diff(values)
    assert values[0] <= low
    assert values[-1] >= high
    assert 2 <= len(values) <= 8
    np.testing.assert_allclose(steps, steps[0])
    assert float(f"{steps[0]:.0e}") == pytest.approx(steps[0]) or float(f"{steps[0]:.1e}") == pytest.approx(steps[0])


def test_long_lines_are_averaged_and_values_that_are_not_finite_left_out():
    chart = line_chart({"loss": [(n, float("nan") if n % 2 else 3.0) for n in range(5000)]}, "kimg")
    points = re.search(r'points="([^"]*)"', chart).group(1).split()
    assert MAX_POINTS // 2 < len(points) <= MAX_POINTS
    assert len({point.split(",")[1] for point in points}) == 1
    assert "loss <b>3</b>" in chart
    assert "No finite values" in line_chart({"loss": [(0, float("inf"))]})
    assert "circle" in line_chart({"loss": [(1, 2.0)]})


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed: apt-get install chromium")
def test_a_browser_draws_the_page(run, tmp_path):
    page = report(run)
    browser = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--window-size=390,1600", "--hide-scrollbars"]
    shot = tmp_path / "shot.png"
    subprocess.run([*browser, f"--screenshot={shot}", page.as_uri()], check=True, capture_output=True, timeout=120)
    done = subprocess.run([*browser, "--dump-dom", page.as_uri()], check=True, capture_output=True, timeout=120)
    assert '<b id="kimg">0.032 kimg</b>' in unescape(done.stdout.decode())
    with Image.open(shot) as picture:
        colours = picture.convert("RGB").getcolors(maxcolors=1 << 24)
    assert len(colours) > 100
