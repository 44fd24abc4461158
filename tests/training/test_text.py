"""Text as a condition and as guidance: towers of a CLIP by name or file, frozen or embedded in the model."""

from __future__ import annotations

import json
import socket
from types import SimpleNamespace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch.nn import functional as F

from assemblies import CheckpointError, check, load_model, parse, save_model
from blocks.common.pretrained.frozen_module import FrozenModule, skip_weights
from blocks.common.pretrained.guidance import random_crop, spherical_distance
from blocks.families import Batch
from ganblocks.cli.app import build_app
from ganblocks.sampling.conditions import resolve_conditions
from ganblocks.sampling.generate import generate
from plugins import clip_towers, pretrained
from plugins.open_clip import TINY, ClipGuidance, OpenClipText
from registry import IncompatibleError
from tests import tiny

CAPTIONS = ["a red bird", "seven", "a house by the sea, painted at night in all of its colours"]


def made(seed=0, **changes):
    torch.manual_seed(seed)
    return clip_towers.open_clip().model.CLIP(**(TINY | changes)).eval()


@pytest.fixture(scope="module")
def clip():
    return made()


@pytest.fixture(scope="module")
def weights(clip, tmp_path_factory):
    path = tmp_path_factory.mktemp("towers") / "clip.safetensors"
    save_file(clip.state_dict(), path)
    return path


def with_text(weights, **options):
    condition = {"kind": "open-clip-text", "model": TINY, "weights": str(weights), **options}
    return parse(tiny.GENERATOR | {"condition": condition})


def test_a_condition_is_the_embedding_of_the_text_tower(clip, weights):
    read = clip_towers.open_clip().SimpleTokenizer(context_length=TINY["text_cfg"]["context_length"])
    expected = clip.encode_text(read(CAPTIONS), normalize=True)
    for embed_weights in (False, True):
        condition = OpenClipText(model=TINY, weights=str(weights), embed_weights=embed_weights)
        tokens = condition.read(CAPTIONS)
        assert tokens.shape == (3, 5)  # the long caption is cut
        torch.testing.assert_close(condition(tokens), expected)
    half = OpenClipText(model=TINY, weights=str(weights), precision="bfloat16")
    assert half(tokens).dtype == torch.float32
    assert 0 < (half(tokens) - expected).abs().max() < 0.05


def test_only_embedded_towers_are_in_the_state_dict(weights):
    frozen, embed_weights = (with_text(weights, embed_weights=embed_weights).build() for embed_weights in (False, True))
    assert not [name for name in frozen.state_dict() if "tower" in name]
    assert "condition.tower.token_embedding.weight" in embed_weights.state_dict()
    extra = sum(parameter.numel() for parameter in embed_weights.parameters())
    assert extra > sum(parameter.numel() for parameter in frozen.parameters())


def test_any_generator_can_be_text_conditional(weights):
    spec = parse(tiny.gan(generator=with_text(weights)))
    traces = check(spec)
    assert traces["generator"].steps[0].path == ("generator", "condition")
    gan = spec.build()
    assert gan.generator.cond_dim == gan.discriminator.cond_dim == TINY["embed_dim"]
    c = gan.generator.condition_of(CAPTIONS)
    assert gan.generator(torch.randn(3, 8), c).shape == (3, 3, 16, 16)
    with pytest.raises(ValueError, match="3 is not a caption"):
        gan.generator.condition_of([3])


def test_class_labels_are_conditions_too():
    generator = parse(tiny.GENERATOR | {"condition": {"kind": "class-labels", "num_classes": 4}}).build()
    assert torch.equal(generator.condition_of([2, 0]), torch.eye(4)[[2, 0]])
    assert torch.equal(generator.condition_of(torch.tensor([2, 0])), torch.eye(4)[[2, 0]])
    with pytest.raises(ValueError, match="4 is not a class label; the classes are 0 to 3"):
        generator.condition_of([4])
    with pytest.raises(IncompatibleError, match="is 5, but the condition class-labels has 4 features; omit cond_dim"):
        check(parse(tiny.GENERATOR | {"cond_dim": 5, "condition": {"kind": "class-labels", "num_classes": 4}}))


def test_a_model_file_names_its_frozen_tower(weights, tmp_path):
    generator = with_text(weights).build().eval()
    save_model(tmp_path / "model.safetensors", generator)
    with safe_open(tmp_path / "model.safetensors", framework="pt") as file:
        about = json.loads(file.metadata()["ganblocks"])
        assert not [name for name in file.keys() if "tower" in name]
    tower = about["frozen"]["condition.tower"]
    assert tower["weights"] == str(weights)
    assert len(tower["sha256"]) == 64
    again = load_model(tmp_path / "model.safetensors", allow_external=True)
    c = generator.condition_of(CAPTIONS)
    assert torch.equal(again.condition_of(CAPTIONS), c)
    assert torch.equal(generate(again, [1, 2, 3], c=c), generate(generator, [1, 2, 3], c=c))


def test_another_tower_than_the_frozen_one_is_refused(tmp_path):
    path = tmp_path / "clip.safetensors"
    save_file(made().state_dict(), path)
    save_model(tmp_path / "model.safetensors", with_text(path).build())
    save_file(made(seed=1).state_dict(), path)
    with pytest.raises(
        CheckpointError, match=r"was saved with weights .* in condition.tower, whose sha256 is \w{12}\.\.\."
    ):
        load_model(tmp_path / "model.safetensors", allow_external=True)


def test_a_model_with_an_embedded_tower_needs_no_other_file(tmp_path):
    path = tmp_path / "clip.safetensors"
    save_file(made().state_dict(), path)
    generator = with_text(path, embed_weights=True).build()
    save_model(tmp_path / "model.safetensors", generator)
    path.unlink()
    again = load_model(tmp_path / "model.safetensors")
    assert torch.equal(again.condition_of(CAPTIONS), generator.condition_of(CAPTIONS))


def test_a_model_file_generates_from_a_prompt(weights, tmp_path):
    save_model(tmp_path / "model.safetensors", with_text(weights).build())
    out = tmp_path / "seven.png"
    arguments = [
        str(tmp_path / "model.safetensors"),
        "--allow-external",
        "--prompt",
        "a handwritten seven",
        "--seeds",
        "0-3",
    ]
    build_app()(["sample", *map(str, arguments), "--out", str(out)], standalone_mode=False)
    assert out.is_file()


def test_a_prompt_that_is_longer_than_the_encoder_reads_is_a_warning(weights, recwarn):
    generator = with_text(weights).build()  # reads 5 tokens, of which two are the start and the end
    exact = resolve_conditions(generator, captions=["a red heart"])
    assert not recwarn
    with pytest.warns(UserWarning, match=r"--prompt 'a red heart on fire': .* does not read its last 2 tokens"):
        longer = resolve_conditions(generator, captions=["a red heart on fire"])
    torch.testing.assert_close(longer.vectors, exact.vectors)


def test_a_text_conditional_model_needs_a_caption(weights):
    with pytest.raises(ValueError, match="this is a text-conditional model: pass c"):
        generate(with_text(weights).build().eval(), [0])


def test_copies_share_frozen_towers(weights):
    import copy

    condition = OpenClipText(model=TINY, weights=str(weights))
    twin = copy.deepcopy(condition)
    assert isinstance(condition.tower, FrozenModule)
    assert twin.tower.network is condition.tower.network
    assert not condition.train().tower.network.training
    assert condition.double()(condition.read(CAPTIONS)).dtype == torch.float64
    assert next(condition.tower.network.parameters()).dtype == torch.float32


def test_weights_are_found_in_the_folder_that_a_variable_names(weights, monkeypatch):
    monkeypatch.setenv("GANBLOCKS_WEIGHTS", str(weights.parent))
    assert OpenClipText(model=TINY, weights="elsewhere/clip.safetensors").cond_dim == TINY["embed_dim"]


def test_missing_weights_are_an_error_that_says_how_to_get_them(monkeypatch):
    def offline(*_: object) -> None:
        raise OSError("Name or service not known")

    monkeypatch.setattr(clip_towers, "cached_file", lambda repository, names: None)
    monkeypatch.setattr(pretrained, "getproxies", dict)
    monkeypatch.setattr(socket, "getaddrinfo", offline)
    tag = clip_towers.open_clip().pretrained.get_pretrained_cfg("ViT-L-14", "openai")
    with pytest.raises(IncompatibleError) as caught:
        clip_towers.find("ViT-L-14", "openai", tag)
    message = str(caught.value)
    assert "'openai' of ViT-L-14 is not on this machine and cannot be downloaded (Name or service not known)" in message
    assert "set `weights` to a file, or put it into the folder that the variable GANBLOCKS_WEIGHTS names" in message


MISTAKES = [
    ({"model": "ViT-L-41"}, r"unknown model 'ViT-L-41'; did you mean .*ViT-L-14"),
    ({"model": {"embed_dim": 4}}, "the configuration has no text_cfg and no vision_cfg"),
    ({"model": TINY, "weights": None}, "a frozen encoder with random weights encodes nothing useful"),
    ({"model": TINY, "weights": "nowhere.pt"}, r"the file 'nowhere.pt' does not exist; set `weights` to a file"),
    ({"model": TINY, "embed_weights": True, "precision": "float16"}, "has the model's precision, not float16"),
    ({"model": TINY | {"embed_dim": 9}}, r"is not of this network: text_projection has shape \[4, 6\], not \[4, 9\]"),
]


@pytest.mark.parametrize(("options", "message"), MISTAKES, ids=range(len(MISTAKES)))
def test_invalid_options_of_a_text_encoder_are_refused(weights, options, message):
    with pytest.raises(IncompatibleError, match=message):
        OpenClipText(**({"weights": str(weights)} | options))


def test_guidance_moves_images_towards_their_captions(clip, weights):
    guidance = ClipGuidance(6, model=TINY, weights=str(weights), weight=1.0, crop=16)
    c = F.normalize(clip.encode_text(clip_towers.tokens(TINY, CAPTIONS)), dim=1).detach()
    torch.manual_seed(0)
    image = torch.rand(3, 3, 16, 16) * 2 - 1
    networks = SimpleNamespace(value_range="symmetric")
    values = []
    for _ in range(20):
        image = image.detach().requires_grad_()
        value = guidance(networks, Batch(fake=image, c=c))
        values.append(value.item())
        image = image - 20 * torch.autograd.grad(value, image)[0]
    assert values[-1] < 0.9 * values[0]
    twice = guidance(networks, Batch(fake=image.repeat(2, 1, 1, 1), c=c.repeat(2, 1)))
    torch.testing.assert_close(twice, guidance(networks, Batch(fake=image, c=c)))
    unit = SimpleNamespace(value_range="unit")
    torch.testing.assert_close(
        guidance(unit, Batch(fake=(image + 1) / 2, c=c)), guidance(networks, Batch(fake=image, c=c))
    )
    assert not guidance.state_dict()


def test_the_weight_of_guidance_follows_its_schedule(weights):
    schedule = {"kind": "linear", "init": 1.0, "final": 0.0, "kimg": 1}
    guidance = ClipGuidance(6, model=TINY, weights=str(weights), weight=schedule)
    found = []
    for images in (0, 500, 1000):
        guidance.at(images)
        found.append(guidance.weight)
    assert found == [1.0, 0.5, 0.0]


def test_guidance_needs_captions_of_the_same_clip(weights):
    term = {"kind": "clip-guidance", "model": TINY, "weights": str(weights)}
    with pytest.raises(IncompatibleError, match="guidance needs captions, and the generator is unconditional"):
        check(parse(tiny.gan(regularizers=[term])))
    with pytest.raises(IncompatibleError, match="embeds images in 6 features, but the condition has 4"):
        ClipGuidance(4, model=TINY, weights=str(weights))
    labels = {"kind": "class-labels", "num_classes": 6}
    for condition in ({"cond_dim": 6}, {"condition": labels}):  # as many features as the embedding
        spec = parse(tiny.gan(regularizers=[term], generator=tiny.GENERATOR | condition))
        for use in (check, type(spec).build):
            with pytest.raises(IncompatibleError, match="the condition class-labels encodes classes"):
                use(spec)
    deeper = TINY | {"text_cfg": TINY["text_cfg"] | {"layers": 2}}
    other = {"kind": "open-clip-text", "model": deeper, "embed_weights": True}
    with pytest.raises(IncompatibleError, match=r"regularizers.0.model +is .*, but the condition has .*; use the same"):
        check(parse(tiny.gan(regularizers=[term], generator=tiny.GENERATOR | {"condition": other})))


def test_the_distance_of_parallel_vectors_is_finite():
    x = F.normalize(torch.randn(200, 24), dim=1).requires_grad_()
    distance = spherical_distance(x, x.detach() * 3)
    (gradient,) = torch.autograd.grad(distance.sum(), x)
    assert distance.max() < 1e-5
    assert gradient.isfinite().all()
    torch.testing.assert_close(spherical_distance(x, -x), torch.full((200,), torch.pi**2), rtol=1e-3, atol=0)


def test_crops_are_one_for_the_batch_and_no_larger_than_the_image():
    image = torch.arange(80.0).reshape(1, 1, 8, 10).expand(2, 3, 8, 10)
    assert torch.equal(random_crop(image, 16), image)
    crops = {int(random_crop(image, 6)[0, 0, 0, 0]) for _ in range(200)}
    assert crops == {row * 10 + column for row in range(3) for column in range(5)}


def test_weights_are_not_needed_to_measure_speed():
    with skip_weights():
        condition = OpenClipText(model=TINY, weights="nowhere.pt")
    assert condition(condition.read(CAPTIONS)).shape == (3, 6)
