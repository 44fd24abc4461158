"""The command line as a whole: help, version, start-up, errors."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest

from ganblocks import describe, json_cache
from ganblocks.cli import app
from registry import catalogue
from registry.catalogue import Catalogue


def test_help_needs_no_torch():
    program = (
        "import sys; sys.argv = ['ganblocks', '--help']\n"
        "from ganblocks.cli.app import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'numpy', 'PIL', 'sklearn', 'matplotlib', 'accelerate'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=600)
    assert ended.returncode == 0, ended.stderr
    for command in ("blocks", "doctor", "schema", "presets", "show", "train", "sample"):
        assert command in ended.stdout


def test_help_lists_the_commands_from_the_cache_as_from_the_plugins(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("GANBLOCKS_CACHE", str(tmp_path))
    monkeypatch.setattr(json_cache, "catalogue", Catalogue())  # no command is loaded
    helps = []
    for build in (app.build_app, app.build_listing, app.build_listing):
        with pytest.raises(SystemExit):
            build()(["--help"], prog_name="ganblocks")
        helps.append(capsys.readouterr().out)
    assert "Train a GAN" in helps[0]
    assert helps[0] == helps[1] == helps[2]
    assert (tmp_path / "commands.json").exists()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("tr", {"train", "truncation"}),
        ("show mini-style", {"mini-styleformer", "mini-stylegan-t", "mini-stylenat"}),
        ("train mini-vi", {"mini-vitgan"}),
        ("diff mini-vitgan mini-st", {"mini-styleformer", "mini-stylegan-t", "mini-stylenat"}),
        ("init mine", {"mine.yaml", "mine-too"}),
        ("blocks hydra", {"hydra-na"}),
        ("blocks --family feature", {"feature-extractor"}),
        ("new-plugin mine --family attent", {"attention"}),
        ("train --resize", {"--resize-filter"}),
    ],
)
def test_a_shell_completes_commands_options_presets_kinds_and_files(ganblocks, monkeypatch, tmp_path, words, expected):
    (tmp_path / "mine.yaml").touch()
    (tmp_path / "mine.txt").touch()
    (tmp_path / "mine-too").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("_GANBLOCKS_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", f"ganblocks {words}")
    monkeypatch.setenv("COMP_CWORD", str(len(words.split())))
    code, out, _ = ganblocks()
    assert code == 0
    assert set(out.split()) == expected


@pytest.mark.slow
def test_start_up_is_fast():
    """Seconds of processor time of commands that read a cached list, which they have written before."""
    for command, limit in (("--help", 0.6), ("blocks", 0.8), ("presets", 0.8), ("doctor", 0.8)):
        used = min(seconds_of(command) for _ in range(2))
        assert used < limit, f"ganblocks {command} takes {used:.2f} s"


@pytest.mark.slow
def test_importing_the_blocks_imports_no_compiler():
    """torch._dynamo takes a second."""
    program = "import sys, blocks, assemblies; assert 'torch._dynamo' not in sys.modules"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=600)
    assert ended.returncode == 0, ended.stderr


def seconds_of(*arguments):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "ganblocks", *arguments], capture_output=True, check=True, timeout=600)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_the_version_is_printed(ganblocks):
    code, out, _ = ganblocks("--version")
    assert (code, out.split()[0]) == (0, "ganblocks")


def test_internal_errors_keep_their_traceback(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["ganblocks", "blocks"])
    monkeypatch.setattr(describe, "families", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        app.main()


def test_importing_the_package_needs_no_torch():
    program = "import sys, ganblocks; assert not {'torch', 'numpy', 'pydantic'} & set(sys.modules), 'heavy imports'"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=600)
    assert ended.returncode == 0, ended.stderr


def test_the_module_runs_like_the_command():
    ended = subprocess.run(
        [sys.executable, "-m", "ganblocks", "--version"], capture_output=True, text=True, timeout=600
    )
    assert (ended.returncode, ended.stdout.split()[0]) == (0, "ganblocks")


def test_every_public_name_can_be_imported():
    import ganblocks

    for name in ganblocks.__all__:
        assert getattr(ganblocks, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'paint'"):
        ganblocks.paint  # noqa: B018


def test_the_help_of_every_command_fits_a_screen_and_ends_with_two_examples(ganblocks, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    for name in catalogue.commands():
        code, out, _ = ganblocks(name, "--help")
        lines = [line.rstrip() for line in out.rstrip().splitlines()]
        assert code == 0
        assert len(lines) <= 60, f"{name} --help has {len(lines)} lines"
        assert sum(line.strip().startswith("ganblocks ") for line in lines[-4:]) == 2, name
