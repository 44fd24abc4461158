"""Protocols of published numbers: all that has to agree for two values of a metric to be comparable.

`stylegan-full` is fid50k_full of StyleGAN2-ADA, Karras et al. 2020, https://arxiv.org/abs/2006.06676; `stylenat-50k`
that of StyleNAT, https://arxiv.org/abs/2211.05770, and StyleSwin, https://arxiv.org/abs/2112.10762; `r3gan` that of
R3GAN, https://arxiv.org/abs/2501.05441; `gat-adm` that of GAT's sampler with the evaluator of ADM, Dhariwal and Nichol
2021, https://arxiv.org/abs/2105.05233.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from registry import Spec

ProtocolName = Literal["stylegan-full", "stylenat-50k", "r3gan", "gat-adm"]
Quantisation = Literal["round", "floor", "round-bfloat16"]
Labels = Literal["data", "uniform", "balanced"]


class Protocol(BaseModel):
    """How images are generated and what they are compared with.

    Args:
        name: The protocol's name.
        num: Number of generated images.
        reference_num: Number of real images, drawn at random; None for all.
        quantisation: How images in [-1,1] become bytes: `round` is to the nearest, `floor` downwards, `round-bfloat16`
            to the nearest after 127.5 x + 128 was computed in bfloat16.
        labels: Classes of generated images: drawn from those of the data, drawn uniformly, or in turn.
        noise: Noise of the layers that add it.
        truncation_psi: Truncation; 1 for none.
        truncation_cutoff: Number of style vectors truncated; None for all.
        extractors: Extractors by the metric's kind, for metrics that name none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    num: int = 50_000
    reference_num: int | None = None
    quantisation: Quantisation = "round"
    labels: Labels = "data"
    noise: Literal["const", "random", "none"] = "random"
    truncation_psi: float = 1.0
    truncation_cutoff: int | None = None
    extractors: dict[str, dict[str, Any]] = {}

    def with_changes(self, **changes: Any) -> Protocol:
        """The protocol with those values replaced that are not None."""
        return self.model_copy(update={name: value for name, value in changes.items() if value is not None})

    def changes(self, extractor: Spec | None, metric: str) -> list[str]:
        """Names of what differs from the published protocol, for a metric with its extractor."""
        published = PROTOCOLS[self.name]
        names = [name for name in type(self).model_fields if getattr(self, name) != getattr(published, name)]
        expected = published.extractors.get(metric, {})
        if extractor is not None and any(getattr(extractor, name, None) != value for name, value in expected.items()):
            names.append("extractor")
        return names


TENSORFLOW = {"kind": "inception", "preprocessing": "tensorflow"}
PYTORCH_FID = {"kind": "inception", "preprocessing": "pytorch-fid"}

PROTOCOLS: dict[str, Protocol] = {
    each.name: each
    for each in (
        Protocol(
            name="stylegan-full",
            extractors={"fid": TENSORFLOW, "kid": TENSORFLOW, "is": TENSORFLOW, "prdc": {"kind": "vgg16"}},
        ),
        Protocol(
            name="stylenat-50k",
            reference_num=50_000,
            extractors=dict.fromkeys(("fid", "kid", "is"), PYTORCH_FID) | {"prdc": {"kind": "vgg16"}},
        ),
        Protocol(
            name="r3gan",
            quantisation="round-bfloat16",
            extractors={"fid": TENSORFLOW, "kid": TENSORFLOW, "is": TENSORFLOW, "prdc": {"kind": "vgg16"}},
        ),
        Protocol(
            name="gat-adm",
            quantisation="floor",
            labels="uniform",
            truncation_psi=0.7,  # GAT counts from the other side: 0.3
            extractors=dict.fromkeys(("fid", "kid", "is", "prdc"), TENSORFLOW),
        ),
    )
}
