"""The recordings again by each kernel that supports their calls, and whole networks by reference kernels alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from blocks.ops.attention import attention
from blocks.ops.bias_act import bias_act
from blocks.ops.conv2d import winograd
from blocks.ops.l2_attention import l2_attention
from blocks.ops.neighborhood_attention import neighborhood_attention
from blocks.ops.upfirdn2d import upfirdn2d
from registry import Kernel, KernelError, Op, recording
from registry.kernels import reference_kernels
from tests.golden import test_golden

pytestmark = pytest.mark.usefixtures("default_device")
DATA = Path(__file__).parent / "data"
GENERATORS = ["stylenat/generator-16-legacy", "stylenat/generator-32"]
DISCRIMINATORS = ["stylenat/discriminator-16-equal", "stylenat/discriminator-32-sn"]
STYLEFORMER = ["styleformer/disc16_resnet", "styleformer/gen16"]
R3GAN = ["r3gan/discriminator-loss-conditional", "r3gan/generator-16"]
GAT = ["gat/attention-class-token", "gat/discriminator-step-aligned", "gat/generator-8"]
FIXTURES = {
    attention: [
        "styleformer/enc_full_const",
        "styleformer/enc_linformer",
        "stylenat/mhsa-rpb-4x4",
        "stylenat/block-mhsa-4x4",
        "stylenat/block-swin-shifted",
        *GENERATORS,
        "vitgan/paper-gblock",
        *GAT,
    ],
    neighborhood_attention: [
        "stylenat/block-nat",
        *GENERATORS,
        "stylenat/hydra-1part-ffhq8",
        "stylenat/hydra-2part-dense-dilated",
        "stylenat/hydra-2part-nonsquare",
        "stylenat/hydra-4part-progressive",
        "stylenat/hydra-uneven-heads",
        "stylenat/legacy-splithead",
        "stylenat/na2d-norpb",
        "stylenat/na2d-rpb",
    ],
    l2_attention: ["vitgan/off-generator-conv-32", "vitgan/paper-dblock", "vitgan/re-attention-l2"],
    upfirdn2d: [*GENERATORS, *DISCRIMINATORS, *STYLEFORMER, *R3GAN],
    bias_act: R3GAN,
}
CASES = [(op, kernel, name) for op, names in FIXTURES.items() for kernel in op.kernels() for name in names]


@pytest.mark.parametrize(("op", "kernel", "name"), CASES, ids=lambda part: getattr(part, "name", part))
@pytest.mark.parametrize("dtype", test_golden.TOLERANCE, ids=["float64", "float32"])
def test_every_kernel_reproduces_the_recordings(
    op: Op, kernel: Kernel, name: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    if reason := kernel.unavailable():
        pytest.skip(reason)
    monkeypatch.setattr(op, "kernels", lambda: [kernel])
    try:
        test_golden.test_blocks_reproduce_the_recorded_outputs(DATA / name, dtype)
    except KernelError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("name", [*GENERATORS, *DISCRIMINATORS, *STYLEFORMER, *R3GAN])
@pytest.mark.parametrize("dtype", test_golden.TOLERANCE, ids=["float64", "float32"])
def test_whole_networks_reproduce_the_recording_by_reference_kernels_alone(name: str, dtype: torch.dtype) -> None:
    with reference_kernels():
        test_golden.test_blocks_reproduce_the_recorded_outputs(DATA / name, dtype)


@pytest.mark.parametrize(
    "name",
    [
        *("styleformer/disc16_orig", "styleformer/disc16_resnet", "styleformer/gmain_16", "styleformer/r1_16"),
        *("stylegan_t/generator_cond", "stylegan_t/synthesis_distinct_ws"),
        *("vitgan/off-generator-conv-32", "vitgan/off-losses-bcr-r1"),
    ],
)
@pytest.mark.parametrize("dtype", test_golden.TOLERANCE, ids=["float64", "float32"])
def test_whole_networks_reproduce_the_recording_by_winograds_convolution(
    name: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    if reason := winograd.Winograd().unavailable():
        pytest.skip(reason)
    if torch.get_default_device().type != "cpu":
        pytest.skip("Winograd's convolution runs on the CPU only")
    monkeypatch.setattr(winograd, "FEWEST_TILES", 1)  # recordings are small
    monkeypatch.setattr(winograd, "FEWEST_CHANNELS", 1)
    with recording() as ran:
        test_golden.test_blocks_reproduce_the_recorded_outputs(DATA / name, dtype)
    if dtype == torch.float64:  # in float32 it needs multiples of 16 channels, and some recordings have 8
        assert ("conv2d", "winograd") in ran
