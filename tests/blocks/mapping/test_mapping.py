"""The mapping network: styles, their running mean, truncation, conditions."""

from __future__ import annotations

import pytest
import torch

from blocks.mapping.mapping import MappingNetwork
from registry import IncompatibleError


def mapping(**options: object) -> MappingNetwork:
    torch.manual_seed(0)
    defaults = {"z_dim": 8, "style_dim": 12, "num_styles": 4, "num_layers": 2}
    return MappingNetwork(**defaults | options)


def latents(batch: int = 3, dim: int = 8) -> torch.Tensor:
    return torch.randn(batch, dim, generator=torch.Generator().manual_seed(1))


def test_all_styles_are_equal():
    ws = mapping()(latents())
    assert ws.shape == (3, 4, 12)
    assert torch.equal(ws, ws[:, :1].expand(-1, 4, -1))


def test_the_length_of_a_normalised_latent_has_no_effect():
    z = latents()
    torch.testing.assert_close(mapping()(5 * z), mapping()(z))
    plain = mapping(normalize_z=False)
    assert not torch.allclose(plain(5 * z), plain(z))


def test_initial_styles_have_unit_scale_for_any_learning_rate():
    for lr_multiplier in (1.0, 0.01):
        block = mapping(z_dim=256, style_dim=256, lr_multiplier=lr_multiplier, num_layers=3)
        assert block.layers[0].weight.std().item() == pytest.approx(1 / lr_multiplier, rel=0.02)
        assert block(latents(64, 256)).square().mean().sqrt().item() == pytest.approx(1, rel=0.1)


def test_truncation_interpolates_towards_the_mean():
    block, z = mapping().eval(), latents()
    block.w_avg.normal_()
    ws = block(z)
    torch.testing.assert_close(block(z, truncation_psi=0), block.w_avg.expand(3, 4, 12))
    torch.testing.assert_close(block(z, truncation_psi=0.7), torch.lerp(block.w_avg, ws, 0.7))
    torch.testing.assert_close(block(z, truncation_psi=-1), 2 * block.w_avg - ws)


@pytest.mark.parametrize("cutoff", [0, 1, 4, 9])
def test_truncation_stops_at_the_cutoff(cutoff):
    block, z = mapping().eval(), latents()
    block.w_avg.normal_()
    ws = block(z, truncation_psi=0.5, truncation_cutoff=cutoff)
    assert torch.equal(ws[:, cutoff:], block(z)[:, cutoff:])
    torch.testing.assert_close(ws[:, :cutoff], block(z, truncation_psi=0.5)[:, :cutoff])


def test_the_running_mean_is_updated_in_training_only():
    block = mapping(w_avg_beta=0.9)
    mean = block.eval()(latents())[:, 0].mean(dim=0)
    assert block.w_avg.abs().max() == 0
    block.train()(latents(), update_w_avg=False)
    assert block.w_avg.abs().max() == 0
    block(latents())
    torch.testing.assert_close(block.w_avg, 0.1 * mean)
    for _ in range(200):
        block(latents())
    torch.testing.assert_close(block.w_avg, mean)
    assert not block.w_avg.requires_grad
    assert "w_avg" in block.state_dict()


def test_an_empty_batch_gives_no_styles_and_leaves_the_running_mean():
    block = mapping()
    block.w_avg.normal_()
    before = block.w_avg.clone()
    assert block(latents()[:0]).shape == (0, 4, 12)
    assert torch.equal(block.w_avg, before)


def test_a_bfloat16_batch_updates_a_float32_mean():
    block = mapping(w_avg_beta=0.0)
    with torch.autocast("cpu", torch.bfloat16):
        mean = block(latents())[:, 0].float().mean(dim=0)
    assert block.w_avg.dtype == torch.float32
    torch.testing.assert_close(block.w_avg, mean, rtol=1e-2, atol=1e-2)


def test_the_style_depends_on_the_direction_of_the_condition():
    block = mapping(cond_dim=5, embed_dim=6, layer_dim=10)
    z, c = latents(), torch.eye(5)[:3]
    assert [layer.weight.shape for layer in block.layers] == [(10, 14), (12, 10)]
    assert not torch.allclose(block(z, c), block(z, c.roll(1, 0)))
    torch.testing.assert_close(block(z, 7 * c), block(z, c))
    with pytest.raises(ValueError, match="c is missing"):
        block(z)


def test_z_dim_0_maps_conditions_alone():
    block = mapping(z_dim=0, cond_dim=5)
    assert block(torch.zeros(3, 0), torch.eye(5)[:3]).shape == (3, 4, 12)
    with pytest.raises(IncompatibleError, match="neither z nor c"):
        mapping(z_dim=0)


def test_training_compiles_to_one_graph_including_the_running_mean():
    block, z = mapping(), latents()
    compiled = torch.compile(block, backend="eager", fullgraph=True)
    expected = mapping()
    torch.testing.assert_close(compiled(z, truncation_psi=0.5), expected(z, truncation_psi=0.5))
    torch.testing.assert_close(block.w_avg, expected.w_avg)
    assert block.w_avg.abs().max() > 0
