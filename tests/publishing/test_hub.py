"""Models are published on a Hub of this machine, downloaded again, and described by their cards."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import torch
import yaml
from PIL import Image

import ganblocks
from ganblocks.errors import UsageError
from ganblocks.publishing.hub import HubError, from_pretrained, pull, save_pretrained
from tests.publishing.hub_server import running_hub

FILES = {"model.safetensors", "spec.json", "README.md", "samples.png"}


@pytest.fixture(scope="module")
def hub():
    with running_hub() as hub:
        yield hub


def command(hub, tmp_path, *arguments):
    """Run the command line against the Hub, which huggingface_hub reads from the environment when it is imported."""
    variables = {"HF_ENDPOINT": hub.address, "HF_HOME": str(tmp_path / "cache"), "HF_TOKEN": "secret"}
    result = subprocess.run(
        [sys.executable, "-m", "ganblocks", *map(str, arguments)],
        env=os.environ | variables,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "Traceback" not in result.stderr, result.stderr
    return result


def test_a_folder_gives_the_same_images(generator, tmp_path, caplog):
    save_pretrained(generator, tmp_path / "digits", license="apache-2.0")
    assert {path.name for path in (tmp_path / "digits").iterdir()} == FILES
    loaded = from_pretrained(tmp_path / "digits")
    assert not caplog.records
    torch.testing.assert_close(ganblocks.generate(loaded, range(4)), ganblocks.generate(generator, range(4)))
    assert json.loads((tmp_path / "digits" / "spec.json").read_text()) == generator.spec.to_dict()
    with Image.open(tmp_path / "digits" / "samples.png") as picture:
        assert picture.width > 8


def test_the_card_says_what_the_model_is_and_how_it_was_trained(model, tmp_path):
    record = {"metric": "fid", "value": 3.25, "reference": {"name": "digits"}}
    model.with_name("metrics.jsonl").write_text(json.dumps(record) + "\ndamaged\n")
    save_pretrained(model, tmp_path / "card", name="me/digits", license="cc0-1.0")
    card = (tmp_path / "card" / "README.md").read_text()
    front, _, body = card.removeprefix("---\n").partition("---\n")
    assert yaml.safe_load(front) == {
        "library_name": "ganblocks",
        "pipeline_tag": "text-to-image",
        "tags": ["gan", "image-generation", "ganblocks"],
        "license": "cc0-1.0",
    }
    assert "8 x 8 px images, 3 classes" in body
    assert "| images | 48000 |" in body
    assert "| data | digits |" in body
    assert "| fid | 3.25 |" in body
    assert "ganblocks.from_pretrained('me/digits')" in body
    code = body.partition("```python\n")[2].partition("```")[0]
    compile(code, "card", "exec")


def test_a_second_model_leaves_no_file_of_the_first(generator, model, tmp_path):
    model.with_name("metrics.jsonl").write_text('{"metric": "fid", "value": 1}\n')
    save_pretrained(model, tmp_path / "folder")
    assert (tmp_path / "folder" / "metrics.jsonl").exists()
    (tmp_path / "folder" / "mine.txt").write_text("mine")
    save_pretrained(generator, tmp_path / "folder")
    assert {path.name for path in (tmp_path / "folder").iterdir()} == FILES | {"mine.txt"}
    (tmp_path / "folder" / "run.json").touch()
    with pytest.raises(UsageError, match="holds a training, whose files would be replaced"):
        save_pretrained(generator, tmp_path / "folder")


def test_a_model_is_pushed_pulled_and_loaded(hub, model, generator, tmp_path):
    pushed = command(hub, tmp_path, "push", model, "me/digits", "--license", "apache-2.0")
    assert pushed.returncode == 0, pushed.stderr
    assert f"{hub.address}/me/digits/commit/" in pushed.stdout
    assert set(hub.repositories["me/digits"]) >= FILES
    assert "license: apache-2.0" in hub.repositories["me/digits"]["README.md"].decode()
    pulled = command(hub, tmp_path, "pull", "me/digits", tmp_path / "pulled")
    assert pulled.returncode == 0, pulled.stderr
    images = ganblocks.generate(tmp_path / "pulled", range(3))
    torch.testing.assert_close(images, ganblocks.generate(generator, range(3)))
    script = "import ganblocks; print(float(ganblocks.generate(ganblocks.from_pretrained('me/digits'), [0]).sum()))"
    hub.downloads.clear()
    variables = {"HF_ENDPOINT": hub.address, "HF_HOME": str(tmp_path / "other-cache")}
    printed = subprocess.run([sys.executable, "-c", script], env=os.environ | variables, capture_output=True, text=True)
    assert float(printed.stdout) == pytest.approx(float(ganblocks.generate(generator, [0]).sum()), rel=1e-5)
    assert set(hub.downloads) == {"model.safetensors"}


def test_a_licence_that_is_not_known_is_a_warning_and_the_hub_decides(hub, model, generator, tmp_path):
    with pytest.warns(UserWarning, match=r"'gpl3': the Hub may not know this licence; .*did you mean .* or 'gpl-3.0'"):
        save_pretrained(generator, tmp_path / "folder", license="gpl3")
    assert "license: gpl3" in (tmp_path / "folder" / "README.md").read_text()
    refused = command(hub, tmp_path, "push", model, "me/refused", "--license", "retired-1.0")
    assert refused.returncode == 2
    assert (
        'me/refused: the Hub refuses the model card: Invalid metadata in README.md. - "license" must be one of'
        in " ".join(refused.stderr.split())
    )
    assert not hub.repositories["me/refused"]


@pytest.mark.parametrize(
    ("repository", "message"),
    [("me/nothing", "the Hub answered 404; check the name and the revision"), ("no/such/name", "neither a file")],
)
def test_a_model_that_is_not_there_is_one_message(hub, tmp_path, repository, message):
    result = command(hub, tmp_path, "pull", repository, tmp_path / "pulled")
    assert result.returncode == 2
    assert message in result.stderr
    assert not (tmp_path / "pulled" / "model.safetensors").exists()


def test_a_full_folder_is_not_pulled_into(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UsageError, match="not an empty folder"):
        pull("me/digits", tmp_path)
    with pytest.raises(HubError, match="neither a file, nor a folder"):
        from_pretrained(tmp_path / "missing" / "folder")
