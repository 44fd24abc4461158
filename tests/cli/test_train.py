"""The train command, resume and sample, one after the other."""

from __future__ import annotations

import json

from PIL import Image


def test_a_gan_is_trained_resumed_and_sampled(ganblocks, gan_file, tmp_path):
    run = tmp_path / "run"
    common = ["--log-every-kimg", 0.016, "--workers", 0]
    code, out, err = ganblocks("train", gan_file, "--data", "digits", "--out", run, "--kimg", 0.016, *common)
    assert code == 0
    assert "ganblocks sample" in out
    assert "training on 1437 images of digits" in err
    assert "images/s" in err
    code, out, err = ganblocks("train", "--resume", "--out", run, "--kimg", 0.032, "--quiet", *common)
    assert (code, out, err) == (0, "", "")
    records = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [record["images"] for record in records if record["event"] == "tick"] == [16, 32]
    assert records[0]["command"].startswith("ganblocks train ")
    assert records[0]["command"].endswith("--log-every-kimg 0.016 --workers 0")
    code, out, _ = ganblocks("sample", run, "--seeds", "0-3,7", "--out", tmp_path / "grid.png", "--truncation-psi", 0.7)
    assert code == 0
    assert Image.open(tmp_path / "grid.png").height == 2 * 11 * 16 + 2, "images are enlarged"
    code, _, err = ganblocks("sample", run, "--class", 1, "--out", tmp_path / "grid.png")
    assert code == 2
    assert "--class 1: there is no such class; the model takes no condition" in err
