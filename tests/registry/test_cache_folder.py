"""The folder of the cache, and who could have written files in it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from registry.cache_folder import CACHE_ENV, folder, why_untrusted


def test_environment_variables_select_the_folder(monkeypatch):
    monkeypatch.setenv(CACHE_ENV, "/somewhere")
    assert folder() == Path("/somewhere")
    monkeypatch.delenv(CACHE_ENV)
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert folder() == Path("/caches/ganblocks")
    for unset in ("", "relative"):
        monkeypatch.setenv("XDG_CACHE_HOME", unset)
        assert folder() == Path.home() / ".cache/ganblocks"


@pytest.mark.parametrize("home", ["", "relative", None])
def test_without_a_home_folder_there_is_no_cache(monkeypatch, home):
    for name in (CACHE_ENV, "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    if home is None:
        monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # of a user without an entry in /etc/passwd
    else:
        monkeypatch.setenv("HOME", home)
    with pytest.raises(OSError, match=r"there is no home folder \(HOME is '.*'\); set GANBLOCKS_CACHE to a folder"):
        folder()


def test_a_file_is_trusted_if_nobody_else_could_have_written_it(tmp_path):
    path = tmp_path / "file"
    path.touch(mode=0o644)
    assert why_untrusted(path) is None
    assert why_untrusted(tmp_path) is None
    for mode in (0o664, 0o646):
        path.chmod(mode)
        assert f"can be written by other users (mode {mode:o})" in why_untrusted(path)
    path.chmod(0o600)
    tmp_path.chmod(0o777)
    assert f"can be replaced by other users, who can write {tmp_path} (mode 777)" in why_untrusted(path)
    tmp_path.chmod(0o1777)  # where users cannot replace each other's files, as in /tmp
    assert why_untrusted(path) is None


def test_a_file_of_another_user_is_not_trusted(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.touch()
    owner = os.stat_result((*path.stat()[:4], 12345, *path.stat()[5:]))
    monkeypatch.setattr(Path, "stat", lambda self: owner)
    assert why_untrusted(path) == f"{path} belongs to another user (uid 12345)"
