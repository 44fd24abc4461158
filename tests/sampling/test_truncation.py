"""A truncation sweep goes from the mean image to the seed's own."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from ganblocks.errors import UsageError
from ganblocks.sampling.conditions import one_hot
from ganblocks.sampling.generate import generate
from ganblocks.sampling.truncation import save_truncation_sweep
from tests.sampling.conftest import is_part_of


def test_a_truncation_sweep_goes_from_the_mean_to_the_seed(model, tmp_path, conditional):
    record = save_truncation_sweep(model, [5, 6], tmp_path / "sweep.png", psis=[0, 0.5, 1], classes=[1], scale=2)
    assert (record["images"], record["psis"]) == (6, [0, 0.5, 1])
    picture = np.asarray(Image.open(tmp_path / "sweep.png").convert("RGB")).astype(int)
    c = one_hot([1], 3)[0]
    assert is_part_of(generate(conditional, [6], c=c, truncation_psi=0.5)[0], picture, conditional.value_range)
    assert is_part_of(generate(conditional, [5], c=c)[0], picture, conditional.value_range)
    with pytest.raises(UsageError, match="is one picture; give a suffix such as"):
        save_truncation_sweep(model, [5], tmp_path / "folder")
