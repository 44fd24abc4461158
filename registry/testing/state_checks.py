"""Checks of a block's state: state dicts, the meta device, deep copies."""

from __future__ import annotations

import copy
import io

import torch

from registry.testing.cases import Case


def restores_from_its_state(case: Case) -> None:
    """Saving the state dict of one instance and loading it, without code, makes another compute the same."""
    first, second = case.build(seed=0).eval(), case.build(seed=1).eval()
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second.load_state_dict(torch.load(file, weights_only=True))
    inputs = case.inputs(first)
    torch.testing.assert_close(case.run(second, inputs), case.run(first, inputs), rtol=0, atol=0)


def loads_after_the_meta_device(case: Case) -> None:
    """Built on the meta device, moved by `to_empty` and loaded, a block computes the same as the original.

    `to_empty` leaves arbitrary values in buffers that are not in the state dict; the harness's `reset_buffers` computes
    them anew.
    """
    original = case.build().eval()
    with torch.device("meta"):
        module = case.build().eval()
    module.to_empty(device=case.device)
    with torch.no_grad():
        for value in (*module.parameters(), *module.buffers()):
            value.fill_(torch.nan if value.is_floating_point() or value.is_complex() else 1)
    case.harness.reset_buffers(module)
    module.load_state_dict(original.state_dict())
    inputs = case.inputs(original)
    torch.testing.assert_close(case.run(module, inputs), case.run(original, inputs), rtol=0, atol=0)


def copies(case: Case) -> None:
    """A deep copy computes the same with parameters of its own."""
    module = case.build().eval()
    twin = copy.deepcopy(module)
    inputs = case.inputs(module)
    torch.testing.assert_close(case.run(twin, inputs), case.run(module, inputs), rtol=0, atol=0)
    addresses = {parameter.data_ptr() for parameter in module.parameters()}
    assert not any(parameter.data_ptr() in addresses for parameter in twin.parameters())
