"""`ganblocks convert` on files in the layouts of published checkpoints: the models reproduce the recorded images."""

from __future__ import annotations

import json
import os
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from assemblies import load_discriminator, load_model
from blocks.common.noise import Noise, noise_mode
from ganblocks.cli import app as cli
from plugins.open_clip import OpenClipText
from tests.assemblies import checkpoint_files as checkpoints
from tests.assemblies.checkpoint_files import fixture, state_of
from tests.golden.adapters.vitgan.layers import set_noise
from tests.golden.fixtures import relative_error


@pytest.fixture
def ganblocks(monkeypatch, capsys):
    """Runs a command; returns exit code, stdout and stderr."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["ganblocks", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        output = capsys.readouterr()
        assert "Traceback" not in output.err
        return ended.value.code or 0, output.out, output.err

    return run


@pytest.fixture
def converted(ganblocks, tmp_path):
    """Converts a file to model.safetensors; returns the report."""

    def run(source, *options):
        code, out, err = ganblocks("convert", source, tmp_path / "model.safetensors", "--json", *options)
        assert (code, err) == (0, "")
        return json.loads(out)

    return run


def same_image(path, recorded, *, c=None, image="image", z="z", **options):
    """Assert that the converted generator makes the recorded image."""
    model = load_model(path)
    with torch.no_grad():
        made = model(recorded.inputs[z], c, **options)
    assert relative_error(made, recorded.expected[image]) <= 2e-5


STYLENAT = {"relative_position_index": (16, 16), "_float_tensor": (1,), "kernel": (4, 4), ".ll": (2, 2)}


@pytest.fixture
def stylenat_file(tmp_path):
    recorded, judge = fixture("stylenat/generator-32"), fixture("stylenat/discriminator-32-sn")
    average = state_of(recorded, **STYLENAT)
    states = {"g": {name: value + 1 for name, value in average.items()}, "d": state_of(judge), "g_ema": average}
    checkpoints.write_stylenat(tmp_path / "050000.pt", states, recorded.config["args"])
    return tmp_path / "050000.pt", recorded, judge


def test_stylenat_in_its_new_layout(stylenat_file, converted, ganblocks, tmp_path):
    path, recorded, judge = stylenat_file
    record = converted(path)
    assert (record["form"], record["network"], record["value_range"]) == ("stylenat generator", "G_ema", "imagenet")
    same_image(tmp_path / "model.safetensors", recorded)
    code, out, _ = ganblocks("sample", tmp_path / "model.safetensors", "--seeds", "0-1", "--out", tmp_path / "s.png")
    assert (code, (tmp_path / "s.png").is_file()) == (0, True), out
    converted(path, "--network", "D", "--overwrite")
    model = load_discriminator(tmp_path / "model.safetensors")
    for mode in ("train", "eval"):  # in training its spectral norm takes a step first
        logits = model.train(mode == "train")(judge.inputs["image"])
        assert relative_error(logits, judge.expected[f"logits_{mode}"]) <= 2e-5


@pytest.mark.parametrize("layout", ["old", "new"])
def test_stylenat_in_its_old_layout_with_two_way_attention(layout, converted, tmp_path):
    recorded = fixture("stylenat/generator-16-legacy")
    state, options = state_of(recorded, **STYLENAT), recorded.config["args"]
    states = {"g": state, "g_ema": state, "d": state_of(fixture("stylenat/discriminator-16-equal"), **STYLENAT)}
    write = checkpoints.write_old_stylenat if layout == "old" else checkpoints.write_stylenat
    write(tmp_path / "FFHQ256_940k_flip.pt", states, options)
    record = converted(tmp_path / "FFHQ256_940k_flip.pt")
    assert ("Namespace" in record["layout"]) == (layout == "old")
    same_image(tmp_path / "model.safetensors", recorded)
    record = converted(tmp_path / "FFHQ256_940k_flip.pt", "--network", "D", "--overwrite")
    assert (record["form"], record["value_range"]) == ("stylenat discriminator", None)


def test_stylenat_without_its_configuration_needs_the_dilations(converted, ganblocks, tmp_path):
    recorded = fixture("stylenat/generator-32")
    torch.save(state_of(recorded, **STYLENAT), tmp_path / "g_ema.pt")
    code, _, err = ganblocks("convert", tmp_path / "g_ema.pt", tmp_path / "model.safetensors")
    assert code == 2
    assert "the file does not contain dilations" in err
    assert "--set dilations=VALUE" in err
    converted(tmp_path / "g_ema.pt", "--set", "dilations=[[1], [1], [1, 2], [1, 4]]")
    same_image(tmp_path / "model.safetensors", recorded)


@pytest.mark.parametrize("name", ["conv", "inr"])
@pytest.mark.parametrize("stale", [False, True])
def test_the_generators_of_vitgans_authors(name, stale, converted, tmp_path):
    recorded = fixture(f"vitgan/off-generator-{name}-32")
    state = state_of(recorded)
    if stale:
        copies = [key for key in state if key.endswith("weight_bar")]
        state |= {key.replace("weight_bar", "weight"): torch.zeros_like(state[key]) for key in copies}
    torch.save(state, tmp_path / "gen_ema.pt")
    record = converted(tmp_path / "gen_ema.pt", "--set", "heads=3")
    assert record["value_range"] == "unit"
    assert any("--set sigma_init=current" in note for note in record["notes"])
    model = load_model(tmp_path / "model.safetensors")
    sigmas = {key: value for key, value in model.state_dict().items() if key.endswith("sigma_init")}
    assert len(sigmas) == 8
    first = next(value for key, value in sigmas.items() if "qkv" in key)
    assert float(first) == pytest.approx(72**0.5 + 24**0.5)  # of 24 -> 72 channels
    assert len(recorded.attributes) == len(sigmas)
    by_name = {key.removesuffix(".multiplier"): value for key, value in recorded.attributes.items()}
    ours = {"qkv": "attn.to_qkv", "proj": "attn.to_out.0", "fc1": "ff.net.0", "fc2": "ff.net.3"}
    with torch.no_grad():
        for key, value in sigmas.items():
            _, place, _, part, *_ = key.split(".")
            value.copy_(by_name[f"layers.{int(place) - 1}.{ours[part]}"])
    mean_style_is_right(model)
    give_noises(model, recorded)
    made = model(recorded.inputs["z"])
    made = made.clamp(0, 1) if name == "inr" else made  # as the authors do in eval mode
    assert relative_error(made, recorded.expected["image"]) <= 2e-5


def test_the_discriminator_of_vitgans_authors(converted, tmp_path):
    recorded = fixture("vitgan/off-discriminator-32")
    torch.save(state_of(recorded), tmp_path / "dis.pt")
    assert converted(tmp_path / "dis.pt")["network"] == "D"
    model = load_discriminator(tmp_path / "model.safetensors")
    name = next(name for name in recorded.expected if "logit" in name and not name.startswith("grad"))
    assert relative_error(model(recorded.inputs["image"]), recorded.expected[name]) <= 2e-5


@pytest.mark.parametrize("whole", [False, True])
def test_the_generator_of_the_vitgan_re_implementation(whole, converted, tmp_path):
    recorded = fixture("vitgan/re-generator-16")
    write_maybe_whole(tmp_path / "Generator.pth", state_of(recorded), whole)
    assert converted(tmp_path / "Generator.pth")["form"] == "vitgan re-implementation's generator"
    model = load_model(tmp_path / "model.safetensors")
    mean_style_is_right(model)
    made = model(recorded.inputs["z"])
    expected = recorded.expected["image"]
    assert relative_error(made.flatten(2).mT if expected.ndim == 3 else made, expected) <= 2e-5


@pytest.mark.parametrize("whole", [False, True])
def test_the_discriminator_of_the_vitgan_re_implementation(whole, converted, tmp_path):
    recorded = fixture("vitgan/re-discriminator-16")
    path = tmp_path / "discriminator.pth"
    write_maybe_whole(path, state_of(recorded), whole, recorded.attributes)
    notes = converted(path)["notes"]
    assert any("largest singular values" in note for note in notes) != whole  # a whole network has them
    if whole:
        model = load_discriminator(tmp_path / "model.safetensors")
        assert relative_error(model(recorded.inputs["image"]), recorded.expected["logit"]) <= 2e-5


def write_maybe_whole(path, state, whole, attributes=()):
    """A state dict, or the network itself with numbers that no state dict has."""
    if not whole:
        torch.save(state, path)
        return
    kind = checkpoints.foreign_class("src.vitgan", "Network")
    network = checkpoints.module_of(state, kind)
    for name in attributes:
        owner, _, last = name.rpartition(".")
        setattr(network.get_submodule(owner), last, np.full((2, 3), attributes[name].item()))
    with checkpoints.foreign(kind=kind):
        torch.save(network, path)


STYLEFORMERS = ["gen16", "gen32", "gen24_start12", "gen64_linformer"]


@pytest.mark.parametrize("name", STYLEFORMERS)
def test_styleformer(name, converted, tmp_path):
    recorded, judge = fixture(f"styleformer/{name}"), fixture("styleformer/disc16_resnet")
    average = state_of(recorded)
    networks = {
        "G": ({key: value + 1 for key, value in average.items()}, recorded.config["kwargs"]),
        "D": (state_of(judge), judge.config["kwargs"]),
        "G_ema": (average, recorded.config["kwargs"]),
    }
    checkpoints.write_persistent(tmp_path / "network-snapshot-025000.pkl", networks, "raise SystemExit('was run')")
    record = converted(tmp_path / "network-snapshot-025000.pkl")
    assert (record["form"], record["network"], record["value_range"]) == ("styleformer generator", "G_ema", "symmetric")
    same_image(tmp_path / "model.safetensors", recorded, image="img")
    if name == "gen16":
        record = converted(tmp_path / "network-snapshot-025000.pkl", "--network", "D", "--overwrite")
        assert record["value_range"] is None
        model = load_discriminator(tmp_path / "model.safetensors")
        assert relative_error(model(judge.inputs["img"]), judge.expected["logits"]) <= 2e-5


def mean_style_is_right(model):
    """Whether the mean style, which these files lack, is that of the mapping."""
    z = torch.randn(5000, model.z_dim, generator=torch.Generator().manual_seed(1))
    w = model.mapping(z)[:, 0]
    assert model.mapping.w_avg.abs().max() > 0
    assert ((model.mapping.w_avg - w.mean(0)).abs() <= 6 * w.std(0) / 50).all()


def give_noises(model, recorded):
    """Set the noise of each layer to the recorded one."""
    layers = [module for module in model.modules() if isinstance(module, Noise)]
    noises = [value for key, value in recorded.inputs.items() if key.startswith("noise:")]
    for layer, noise in zip(layers, noises, strict=True):
        set_noise(layer, noise)


TINY_CLIP = {
    "vision_cfg": {"image_size": 8, "layers": 1, "width": 8, "head_width": 4, "patch_size": 4},
    "text_cfg": {"context_length": 5, "vocab_size": 49408, "width": 4, "heads": 2, "layers": 1},
}


@pytest.mark.parametrize("name", ["cond", "cond_truncated", "uncond"])
def test_stylegan_t(name, converted, tmp_path):
    recorded = fixture(f"stylegan_t/generator_{name}")
    options, average = recorded.config, state_of(recorded, transform=(3, 3))
    for key in [key for key in average if key.endswith("transform")]:
        average[key] = torch.eye(3)
    settings = ["--set", f"gn_groups={options['synthesis_kwargs']['gn_groups']}"]
    if options["c_dim"]:
        clip = TINY_CLIP | {"embed_dim": options["c_dim"]}
        tower = OpenClipText(model=clip, embed_weights=True)
        average |= {f"mapping.clip.model.{key}": value for key, value in tower.tower.state_dict().items()}
        average |= {"mapping.clip.model.logit_scale": torch.ones(()), "mapping.clip.model.attn_mask": torch.ones(5, 5)}
        settings += ["--set", f"clip={json.dumps(clip)}"]
    checkpoints.write_by_reference(tmp_path / "network-snapshot-025000.pkl", {"G": average, "G_ema": average})
    record = converted(tmp_path / "network-snapshot-025000.pkl", *settings)
    assert (record["form"], record["network"]) == ("stylegan-t generator", "G_ema")
    assert record["layout"] == "whole networks G, G_ema"  # those of this file
    assert any("CLIP" in note for note in record["notes"]) == bool(options["c_dim"])
    image = next(key for key in recorded.expected if key in ("img", "image"))
    with noise_mode(options["call_args"]["noise_mode"]):
        psi = options["truncation_psi"]
        path = tmp_path / "model.safetensors"
        same_image(path, recorded, c=recorded.inputs.get("c"), image=image, truncation_psi=psi)
    if options["c_dim"]:  # it takes captions too, by the tower that came along
        torch.testing.assert_close(load_model(path).condition_of(["a cat"]), tower(tower.read(["a cat"])))


@pytest.mark.parametrize("name", ["cond", "uncond_large"])
def test_stylegan_t_discriminator(name, converted, complaint, tmp_path):
    recorded = fixture(f"stylegan_t/discriminator_{name}")
    checkpoints.write_by_reference(tmp_path / "x.pkl", {"D": state_of(recorded)})
    assert "does not contain num_heads" in complaint(tmp_path / "x.pkl", "--network", "D")
    size, samples = recorded.inputs["img"].shape[-1], recorded.config["virtual_bs"]
    settings = ("--set", "num_heads=3", "--set", f"img_resolution={size}", "--set", f"virtual_bs={samples}")
    converted(tmp_path / "x.pkl", *settings)
    model = load_discriminator(tmp_path / "model.safetensors")
    image = recorded.inputs["img"]
    if recorded.config["crop"] is not None:
        (top, left), side = recorded.config["crop"], recorded.config["vit"]["img_size"]
        image = image[:, :, top : top + side, left : left + side]
    assert relative_error(model(image, recorded.inputs.get("c")), recorded.expected["logits"]) <= 2e-5


STYLEGAN2 = {
    "z_dim": 6,
    "c_dim": 3,
    "w_dim": 8,
    "img_resolution": 8,
    "img_channels": 3,
    "mapping_kwargs": {"num_layers": 2},
    "synthesis_kwargs": {"channel_base": 64, "channel_max": 10, "num_fp16_res": 4, "conv_clamp": 256},
}


def stylegan2_state():
    """Tensors of a StyleGAN2-ADA generator of 8 pixels: 10 channels at 4x4, 8 at 8x8."""
    shapes = {"mapping.w_avg": (8,), "mapping.embed.weight": (8, 3), "mapping.embed.bias": (8,)}
    shapes |= {"mapping.fc0.weight": (8, 14), "mapping.fc0.bias": (8,), "mapping.fc1.weight": (8, 8)}
    shapes |= {"mapping.fc1.bias": (8,), "synthesis.b4.const": (10, 4, 4)}
    layers = {"b4.conv1": (10, 10, 4), "b8.conv0": (10, 8, 8), "b8.conv1": (8, 8, 8)}
    for name, (dim, out, side) in layers.items():
        shapes |= {f"synthesis.{name}.weight": (out, dim, 3, 3), f"synthesis.{name}.bias": (out,)}
        shapes |= {f"synthesis.{name}.noise_const": (side, side), f"synthesis.{name}.noise_strength": ()}
        shapes |= {f"synthesis.{name}.affine.weight": (dim, 8), f"synthesis.{name}.affine.bias": (dim,)}
        shapes |= {f"synthesis.{name}.resample_filter": (4, 4)}
    for side, dim in {4: 10, 8: 8}.items():
        shapes |= {f"synthesis.b{side}.torgb.weight": (3, dim, 1, 1), f"synthesis.b{side}.torgb.bias": (3,)}
        shapes |= {f"synthesis.b{side}.torgb.affine.weight": (dim, 8), f"synthesis.b{side}.torgb.affine.bias": (dim,)}
        shapes |= {f"synthesis.b{side}.resample_filter": (4, 4)}
    draws = torch.Generator().manual_seed(0)
    return {name: torch.randn(shape, generator=draws) for name, shape in shapes.items()}


def test_stylegan2_with_classes(converted, ganblocks, tmp_path):
    state = stylegan2_state()
    checkpoints.write_persistent(tmp_path / "x.pkl", {"G_ema": (state, STYLEGAN2)}, "")
    record = converted(tmp_path / "x.pkl")
    num_weights = sum(value.numel() for name, value in state.items() if "resample_filter" not in name)
    assert (record["form"], record["numbers"]) == ("stylegan2 generator", num_weights)
    image = load_model(tmp_path / "model.safetensors")(torch.randn(2, 6), torch.eye(3)[:2])
    assert image.shape == (2, 3, 8, 8)
    unknown = STYLEGAN2 | {"synthesis_kwargs": {"channel_base": 64, "channel_max": 10, "magnitude": 3}}
    checkpoints.write_persistent(tmp_path / "x.pkl", {"G_ema": (state, unknown)}, "")
    code, _, err = ganblocks("convert", tmp_path / "x.pkl", tmp_path / "y.safetensors")
    assert code == 2
    assert "synthesis_kwargs.magnitude" in err
    torch.save(state, tmp_path / "state.pt")
    code, _, err = ganblocks("convert", tmp_path / "state.pt", tmp_path / "y.safetensors")
    assert (code, "does not contain z_dim" in err) == (2, True)


@pytest.fixture
def complaint(ganblocks, tmp_path):
    """Converts a file that cannot be converted; returns the message. No file is left behind."""

    def run(source, *options):
        before = set(tmp_path.iterdir())
        code, out, err = ganblocks("convert", source, tmp_path / "model.safetensors", *options)
        assert (code, out) == (2, "")
        assert set(tmp_path.iterdir()) == before
        return err

    return run


def test_all_wrong_names_are_reported_together(stylenat_file, complaint, tmp_path):
    checkpoint = torch.load(stylenat_file[0], weights_only=False)
    state = checkpoint["state_dicts"]["g_ema"]
    del state["layers.0.blocks.0.attn.proj.bias"]
    state["layers.1.blocks.1.mlp.fc2.bias"] = torch.ones(7)
    state["to_rgbs.0.conv.weight"] = torch.ones(3)
    state["extra.weight"] = torch.ones(1)
    torch.save(checkpoint, tmp_path / "x.pt")
    message = complaint(tmp_path / "x.pt")
    assert "x.pt (stylenat generator) does not fit together (4 problems)" in message
    assert "layers.0.blocks.0.attn.proj.bias is missing" in " ".join(message.split())
    assert "layers.1.blocks.1.mlp.fc2.bias has shape [7]" in " ".join(message.split())
    assert "extra.weight is not expected" in " ".join(message.split())
    assert "to_rgbs.0.conv.weight" in message


def test_a_file_that_would_run_code_is_refused_by_name(complaint, stylenat_file, tmp_path):
    class Hostile:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'was-run'}",)

    checkpoint = torch.load(stylenat_file[0], weights_only=False)
    torch.save(checkpoint | {"eval_info": Hostile()}, tmp_path / "x.pt")
    assert f"it would run {os.system.__module__}.system" in complaint(tmp_path / "x.pt")


def test_files_that_cannot_be_converted_are_errors_with_a_reason(complaint, stylenat_file, tmp_path):
    assert "does not exist" in complaint(tmp_path / "absent.pt")
    (tmp_path / "page.pt").write_text("<!DOCTYPE html><html></html>")
    assert "a web page" in complaint(tmp_path / "page.pt")
    content = stylenat_file[0].read_bytes()
    (tmp_path / "cut.pt").write_bytes(content[: len(content) // 2])
    assert "damaged or truncated" in complaint(tmp_path / "cut.pt")
    torch.save({"a": torch.ones(1)}, tmp_path / "other.pt")
    assert "has an unknown layout (1 tensor: a ...)" in complaint(tmp_path / "other.pt")
    for form, fact in {
        "1": "is a ganblocks model already: pass it as MODEL to",
        "training-1": "is a file of ganblocks",
    }.items():
        save_file({"a": torch.ones(1)}, tmp_path / "ours.safetensors", {"format": f"ganblocks-{form}"})
        assert fact in complaint(tmp_path / "ours.safetensors")
    torch.save({"epoch": 3, "optim": {}}, tmp_path / "optim.pt")
    assert "a dictionary of epoch, optim" in complaint(tmp_path / "optim.pt")
    state = {"mapping.fc0.weight": torch.ones(1), "synthesis.L0_36_512.weight": torch.ones(1)}
    checkpoints.write_persistent(tmp_path / "sg3.pkl", {"G_ema": (state, {})}, "")
    assert "no block here has its alias-free layers" in complaint(tmp_path / "sg3.pkl")
    torch.save(state_of(fixture("vitgan/off-discriminator-32")), tmp_path / "dis.pt")
    assert "is a vitgan discriminator, not G" in complaint(tmp_path / "dis.pt", "--network", "G")
    assert "did you mean 'dilations'" in complaint(stylenat_file[0], "--set", "dilation=3")
    assert "'dilations' should be path=value" in complaint(stylenat_file[0], "--set", "dilations")
    assert "dilations   is neither YAML nor JSON" in complaint(stylenat_file[0], "--set", "dilations=[[1")


def test_a_model_is_not_overwritten_by_accident(stylenat_file, converted, ganblocks, tmp_path):
    converted(stylenat_file[0])
    code, _, err = ganblocks("convert", stylenat_file[0], tmp_path / "model.safetensors")
    assert (code, "exists" in err) == (2, True)
    code, _, err = ganblocks("convert", stylenat_file[0], tmp_path / "model.pt")
    assert (code, "give it the suffix .safetensors" in err) == (2, True)
    code, out, _ = ganblocks("convert", stylenat_file[0], tmp_path / "new" / "g.safetensors", "--network", "G")
    assert code == 0
    assert "stylenat generator (G of state dicts G, D, G_ema)" in out
    assert "value_range imagenet" in out


def test_a_discriminator_cannot_be_sampled(stylenat_file, converted, ganblocks, tmp_path):
    converted(stylenat_file[0], "--network", "D")
    code, _, err = ganblocks("sample", tmp_path / "model.safetensors", "--out", tmp_path / "s.png")
    assert (code, "holds a discriminator" in err) == (2, True)


def test_diverged_weights_are_noted(converted, tmp_path):
    state = state_of(fixture("vitgan/off-discriminator-32"))
    state["layers.0.1.bias"][0] = torch.nan
    torch.save(state, tmp_path / "dis.pt")
    assert "1 tensors have values that are not finite" in converted(tmp_path / "dis.pt")["notes"][0]
