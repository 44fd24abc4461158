"""GAT's checkpoints: sizes from the shapes of the tensors, and every tensor converted."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from assemblies.conversion.read import import_network
from assemblies.models.gat import architecture, checkpoint
from registry import IncompatibleError

ARGS: dict[str, Any] = {
    "input_size": 8,
    "patch_size": 2,
    "in_channels": 4,
    "latent_size": 6,
    "cmap_dim": 12,
    "hidden_size": 16,
    "depth": 4,
    "num_heads": 2,
    "mlp_ratio": 4.0,
    "num_classes": 3,
    "qk_norm": True,
}


def checkpoint_of(network: nn.Module, rules: Any, shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """A state dict of the reference, from the shapes of ours; `shapes` are those of converted tensors and of others."""
    state = network.state_dict()
    tensors = {source: torch.randn(state[target].shape) for target, (source, *_), _ in rules}
    return tensors | {name: torch.randn(shape) for name, shape in shapes.items()}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write(tmp_path, ARGS | {"z_dim": 6, "projector_dim": 10})


def write(folder: Path, args: dict[str, Any]) -> Path:
    """A file of the reference's layout with networks `ema`, `generator` and `discriminator`."""
    generator = architecture.generator_spec(ARGS).build()
    shapes = {"pos_embed": (1, 16, 16), "y_embedder.embedding_table.weight": (3, 6)}
    shapes |= {"x_embedder.proj.weight": (16, 4, 2, 2), "feat_rope.freqs_cos": (16, 8)}
    of_generator = checkpoint_of(generator, checkpoint.generator_rules(ARGS), shapes)
    discriminator = architecture.discriminator_spec(args).build(**architecture.discriminator_context(args))
    shapes = {"pos_embed": (1, 16, 16), "y_embedder.embedding_table.weight": (3, 12), "cls_token": (1, 1, 16)}
    shapes |= {"feat_rope.freqs_cos": (16, 8), "feat_rope.freqs_sin": (16, 8)}
    of_discriminator = checkpoint_of(discriminator, checkpoint.discriminator_rules(args), shapes)
    path = folder / "0020000.pt"
    adam = torch.optim.AdamW(generator.parameters())
    generator(torch.randn(2, 6), torch.eye(3)[:2]).sum().backward()
    adam.step()
    content: dict[str, Any] = {"generator": of_generator, "ema": of_generator, "discriminator": of_discriminator}
    content |= {"optG": adam.state_dict(), "optD": adam.state_dict(), "steps": 20_000, "wallclock_time": 1.5}
    arguments = Namespace(model="SiT-B/2", resolution=256, num_classes=3, fused_attn=True, qk_norm=True)
    torch.save(content | {"args": arguments, "wandb_run_id": None}, path)
    return path


def test_the_averaged_generator_is_rebuilt_from_its_tensors_alone(file: Path) -> None:
    imported = import_network(file, options={"decoder": None})
    assert (imported.form, imported.role, imported.notes) == ("gat generator", "G_ema", ())
    assert imported.spec == architecture.generator_spec(ARGS)
    assert imported.build()(torch.randn(2, 6), torch.eye(3)[:2]).shape == (2, 4, 8, 8)


def test_a_generator_of_latents_of_stable_diffusion_gets_the_decoder_that_the_authors_sample_with(file: Path) -> None:
    imported = import_network(file)
    assert imported.spec.to_dict() == architecture.generator_spec(ARGS, architecture.DECODER).to_dict()
    assert imported.notes == (checkpoint.DECODER_NOTE,)


def test_decoder_blocks_of_old_files_are_the_blocks_from_the_ninth_on() -> None:
    names = ("blocks.7.attn.qkv.bias", "decoder_blocks.0.attn.qkv.bias", "decoder_blocks.3.mlp.w3.weight", "pos_embed")
    tensors = {name: torch.tensor(number) for number, name in enumerate(names)}
    expected = ("blocks.7.attn.qkv.bias", "blocks.8.attn.qkv.bias", "blocks.11.mlp.w3.weight", "pos_embed")
    assert checkpoint.renamed(tensors) == {name: tensors[old] for name, old in zip(expected, names, strict=True)}


@pytest.mark.parametrize("z_dim", [0, 6])
def test_the_discriminator_is_rebuilt_with_its_projector_if_it_has_one(tmp_path: Path, z_dim: int) -> None:
    args = ARGS | {"z_dim": z_dim, "projector_dim": 10}
    imported = import_network(write(tmp_path, args), "D")
    assert imported.form == "gat discriminator"
    assert imported.spec == architecture.discriminator_spec(args)
    assert imported.notes == ()
    network: Any = imported.build()
    assert sum(each.kind == "token-projector" for each in network.steps) == (z_dim > 0)
    real, generated = torch.randn(2, 4, 8, 8), torch.randn(2, 16, 8, 8)
    assert network(real, torch.eye(3)[:2]).shape == network(generated, torch.eye(3)[:2]).shape == (2, 1)


def test_a_patch_is_read_with_its_channels_last() -> None:
    rules = checkpoint.readout_rules("synthesis.5", "final_layers.0.", 2)
    (convert,) = [each.convert for each in rules if each.target.endswith("patch.bias")]
    pixels = torch.arange(16).view(2, 2, 4)  # row, column, channel
    assert convert(pixels.flatten()).tolist() == pixels.permute(2, 0, 1).flatten().tolist()


def test_a_generator_has_at_least_four_blocks() -> None:
    with pytest.raises(IncompatibleError, match="3 blocks give no 4 images; take 4 or more"):
        architecture.generator_spec(ARGS | {"depth": 3})


def test_blocks_beyond_the_last_readout_are_left_out() -> None:
    assert architecture.generator_spec(ARGS | {"depth": 9}) == architecture.generator_spec(ARGS | {"depth": 8})
    ignored = checkpoint.ignored_by_generator(9)
    assert ignored("blocks.8.attn.qkv.weight")
    assert not ignored("blocks.7.attn.qkv.weight")


def test_the_generator_gives_all_levels_in_training_and_the_last_otherwise() -> None:
    generator = architecture.generator_spec(ARGS).build()
    z, c = torch.randn(2, 6), torch.eye(3)[:2]
    levels = generator.train()(z, c)
    image = generator.eval()(z, c)
    assert levels.shape == (2, 16, 8, 8)
    torch.testing.assert_close(levels[:, -4:], image)
