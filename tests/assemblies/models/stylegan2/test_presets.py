"""StyleGAN2's preset has the published size."""

from __future__ import annotations

from assemblies import check, parse
from registry import catalogue


def test_the_preset_is_a_complete_document_with_the_published_number_of_parameters() -> None:
    spec = parse(catalogue.presets()["stylegan2-ffhq-256"]())
    assert parse(spec.to_dict()) == spec
    traces = check(spec)
    assert traces["generator"].image == (3, 256, 256)
    assert traces["generator"].parameters == 24_767_458
    assert traces["discriminator"].parameters == 24_001_089
