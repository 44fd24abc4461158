"""The progress of a training in a terminal, at 80 and 200 columns, and in a pipe."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import termios

import pytest

from ganblocks.training.logs.progress_log import ProgressLog
from ganblocks.training.run.folder import RunFolder

LOSSES = {"logits/real": 2.1, "logits/fake": 0.02, "discriminator": 0.895, "r1": 0.00191, "generator": 0.69}
SIGNALS = {f"signal/{index}": index / 7 for index in range(12)}


@pytest.fixture
def terminal(monkeypatch):
    """Give standard error a pseudo-terminal of that many columns; returns a function that reads what was written."""
    files = []

    def open_terminal(columns):
        controller, terminal = pty.openpty()
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
        stream = os.fdopen(terminal, "w")
        files.extend([stream, controller])
        for name, value in {"TERM": "xterm", "COLUMNS": str(columns), "LINES": "40"}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr("sys.stderr", stream)

        def read():
            chunks = []
            while select.select([controller], [], [], 0.1)[0]:
                chunks.append(os.read(controller, 2**16))
            return b"".join(chunks).decode()

        return read

    yield open_terminal
    files[0].close()
    os.close(files[1])


@pytest.mark.parametrize(("columns", "all_means"), [(80, False), (200, True)])
def test_a_terminal_shows_bar_speed_time_left_and_means_on_one_line(terminal, tmp_path, columns, all_means):
    read = terminal(columns)
    log = ProgressLog(RunFolder(tmp_path), 25_000_000, 0, quiet=False, active=True)
    log.bar.live.auto_refresh = False
    with log:
        for images in (11_000_000, 12_345_600):
            log.advance(images)
        log.tick(12_345_600, 9, LOSSES, SIGNALS, {})
        log.bar.refresh()
        written = read()
    frame = written.replace("\r\n", "\n").rpartition("\r\x1b[2K")[2]
    lines = [line.strip() for line in re.sub(r"\x1b\[[?\d;]*[a-zA-Z]", "", frame).splitlines() if line.strip()]
    assert max(map(len, lines)) <= columns
    assert re.fullmatch(
        r"━+ ?━* 12345\.6/25000 kimg \S+ images/s \d+:\d\d:\d\d G 0\.69  D 0\.895.*",
        lines[0].replace("╸", "━").replace("╺", "━"),
    )
    assert any("signal/11" in line for line in lines) == all_means


def test_alarms_come_first(terminal, tmp_path):
    read = terminal(120)
    with ProgressLog(RunFolder(tmp_path), 1000, 0, quiet=False, active=True) as log:
        log.tick(500, 1, LOSSES, {}, {"separated": "logits are apart"})
        log.bar.refresh()
    assert "COLLAPSE ALARM (separated)  G 0.69" in read()


def test_a_pipe_gets_a_line_with_all_means(capsys, tmp_path):
    with ProgressLog(RunFolder(tmp_path), 1000, 0, quiet=False, active=True) as log:
        log.tick(500, 1, LOSSES, SIGNALS, {})
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("    0.50 kimg  ")
    assert all(f"{name} " in line for name in LOSSES | SIGNALS)
