"""ViTGAN's implicit patch head, as the authors' code has it: with a mapping of the token and noise for each pixel."""

from __future__ import annotations

from torch import Tensor
from torch.func import functional_call

from assemblies.models.vitgan import architecture as vitgan
from assemblies.models.vitgan.parts import inr_rules
from blocks.image_head.inr_patches import INRPatches
from tests.golden.adapters.vitgan_networks import give_noises, renamed
from tests.golden.recipe import Fixture, adapter


@adapter("vitgan", "off_cips")
def inr_patches(fixture: Fixture) -> dict[str, Tensor]:
    arch, token = fixture.config["arch"], fixture.inputs["token"]
    size = arch["size"]
    args = {"size": size, "token_width": 1, "cips_channels": arch["channels"], "cips_n_mlp": arch["n_mlp"]}
    spec = INRPatches.Spec.model_validate(vitgan.inr_head(args)[0])
    block = spec.build(dim=arch["style_dim"], resolution=(1, 1), image_channels=3).to(fixture.dtype)
    rules = list(inr_rules("block", "", args, (size, size)))
    rules = [part._replace(ours=part.ours[6:], theirs=tuple(name[1:] for name in part.theirs)) for part in rules]
    give_noises(fixture, block, rules)
    weights = {ours: value.to(fixture.dtype) for ours, value in renamed(rules, fixture.tensors).items()}
    x = token[:, :, None, None]  # each token a map of one
    image = functional_call(block, weights, (x, x.new_zeros(len(x), 0, 1)), strict=False)
    return {"patch_train": image, "patch_eval": image.clamp(0, 1)}
