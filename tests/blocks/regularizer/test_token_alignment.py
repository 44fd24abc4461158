"""Token alignment: cosine distances to a teacher's tokens, with the augmentation of the real images."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from assemblies import check, parse
from blocks import DiffAugment, TokenAlignment
from blocks.families import Batch, Networks
from blocks.regularizer.token_alignment import TINY, grid, misalignment, resize_tokens, shifted
from registry import IncompatibleError

SIDE = torch.Size((8, 8))


class Tokens(nn.Module):
    """A discriminator whose projected tokens are those of a frozen network."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def projected_tokens(self, image: Tensor, c: Tensor | None = None) -> Tensor:
        pixels = F.interpolate(image, (16, 16), mode="bicubic", align_corners=False)
        tokens: Tensor = self.network(pixels)[-1]
        return tokens


def test_tokens_that_are_the_teachers_have_no_loss() -> None:
    block = TokenAlignment(teacher=TINY).double()
    batch = Batch(real=torch.rand(3, 3, 8, 8, dtype=torch.float64) * 2 - 1)
    value = block(Networks(nn.Identity(), Tokens(block.teacher), nn.Identity()), batch)
    assert abs(value.item()) < 1e-12


def test_the_class_token_weighs_as_much_as_all_patches() -> None:
    targets = torch.randn(2, 5, 6, dtype=torch.float64)
    for start, stop, expected in ((0, 1, (2.0, 0.0)), (1, 5, (0.0, 2.0))):
        tokens = targets.clone()
        tokens[:, start:stop] *= -3
        of_class, of_patches = misalignment(tokens, targets)
        assert (of_class.tolist(), of_patches.tolist()) == tuple(pytest.approx([value] * 2) for value in expected)


def test_latents_are_aligned_with_the_images_that_they_encode() -> None:
    block = TokenAlignment(teacher=TINY)
    pixels = torch.rand(2, 3, 16, 16) * 2 - 1
    tokens = block.teacher(pixels)[-1]
    discriminator: Any = nn.Identity()
    discriminator.projected_tokens = lambda image, c=None: tokens
    networks = Networks(nn.Identity(), discriminator, nn.Identity())
    assert abs(block(networks, Batch(real=torch.randn(2, 4, 8, 8), pixels=pixels)).item()) < 1e-6


def test_latents_without_their_images_are_refused() -> None:
    block = TokenAlignment(teacher=TINY)
    with pytest.raises(ValueError, match="real images have 4 channels; train on latents that"):
        block(Networks(nn.Identity(), nn.Identity(), nn.Identity()), Batch(real=torch.randn(2, 4, 8, 8)))


def test_the_teacher_gets_the_same_flips_and_no_colours() -> None:
    block = TokenAlignment(teacher=TINY)
    augment = DiffAugment(policy=("color", "translation", "cutout", "flip"), flip_probability=0.5)
    real = torch.rand(4, 3, 8, 8) * 2 - 1
    draws = augment.draw(real) | {"flip.gate": torch.tensor([0.0, 0.9, 0.1, 0.6])}
    draws |= {name: torch.zeros(4, dtype=torch.int64) for name in ("translation.dy", "translation.dx")}
    plain, view = block.view(real, augment, None, SIDE), block.view(real, augment, draws, SIDE)
    torch.testing.assert_close(view[[0, 2]], plain[[0, 2]].flip(3))
    torch.testing.assert_close(view[[1, 3]], plain[[1, 3]])


def test_what_a_translation_uncovers_is_zero_for_the_teachers_network() -> None:
    block = TokenAlignment(teacher=TINY, teacher_policy=("translation",), teacher_shift="scaled")
    augment = DiffAugment(policy=("translation",))
    real = torch.rand(1, 3, 8, 8) * 2 - 1
    draws = augment.draw(real) | {"translation.dy": torch.tensor([1]), "translation.dx": torch.tensor([0])}
    view, plain = block.view(real, augment, draws, SIDE), block.view(real, augment, None, SIDE)
    torch.testing.assert_close(view[:, :, :-2], plain[:, :, 2:])
    teacher: Any = block.teacher
    normalized = view * teacher.scale + teacher.shift
    torch.testing.assert_close(normalized[:, :, -2:], torch.zeros(1, 3, 2, 16))


def test_the_published_shift_of_the_teachers_image_is_zero_or_minus_one() -> None:
    shifts = torch.arange(-4, 5)
    assert shifted(shifts, 32, 224, "published").tolist() == [-1] * 4 + [0] * 5
    assert shifted(shifts, 32, 224, "scaled").tolist() == (7 * shifts).tolist()


def test_grids_of_other_numbers_of_patches_are_resized() -> None:
    ramp = torch.arange(16.0).view(1, 16, 1)
    assert torch.equal(resize_tokens(ramp, (224, 224), 16, (32, 32)), ramp)
    assert resize_tokens(ramp, (224, 224), 4, (32, 32)).shape == (1, 4, 1)
    assert grid(6, (16, 24)) == (2, 3)


def test_a_document_needs_a_projector_of_the_teachers_width() -> None:
    def document(*projector: dict[str, Any]) -> Any:
        image_head = {"kind": "modulated-patches", "patch_size": 2}
        return parse(
            {
                "kind": "gan",
                "generator": {
                    "kind": "layered",
                    "z_dim": 4,
                    "synthesis": [{"kind": "sinusoidal-tokens", "dim": 8, "resolution": 4}, image_head, image_head],
                    "multi_level": True,
                },
                "discriminator": {
                    "kind": "layered",
                    "steps": [
                        {"kind": "noised-levels", "dim": 8, "num_levels": 2},
                        *projector,
                        {"kind": "class-projection", "embed_dim": 4},
                    ],
                },
                "regularizers": [{"kind": "token-alignment", "teacher": TINY}],
            }
        )

    with pytest.raises(IncompatibleError, match="no projected tokens; add a step token-projector"):
        check(document())
    with pytest.raises(IncompatibleError, match=r"tokens of 4 features, .* to 6; set dim of token-projector to 4"):
        check(document({"kind": "token-projector", "dim": 6, "projector_dim": 8}))
    spec = document({"kind": "token-projector", "dim": 4, "projector_dim": 8})
    check(spec)
    gan = spec.build()
    image, c = torch.randn(2, 3, 8, 8), None
    assert gan.discriminator.projected_tokens(image, c).shape == (2, 17, 4)
    assert gan.discriminator(image, c).shape == (2, 1)
    networks = Networks(gan.generator, gan.discriminator, nn.Identity())
    gan.regularizers[0](networks, Batch(real=image)).backward()
    moved = {name for name, value in gan.discriminator.named_parameters() if value.grad is not None}
    assert {name for name in moved if name.startswith("steps.1.")} == {
        f"steps.1.layers.{index}.{name}" for index in (0, 2, 4) for name in ("weight", "bias")
    }
    assert not any(name.startswith("steps.2.") for name in moved)
