"""StyleGAN-T's discriminator: local batch norm, the frozen network's features, the heads, and the whole."""

from __future__ import annotations

from torch import Tensor, nn
from torch.func import functional_call

from assemblies.conversion.weight_map import WeightRule, translate
from assemblies.models.stylegan_t import architecture as importer
from blocks import BatchNormLocal, DiffAugment, TokenConvHead
from registry import catalogue
from tests.golden.adapters.stylegan_t_discriminator import OURS
from tests.golden.recipe import Fixture, adapter


@adapter("stylegan_t", "batchnorm_local")
def batchnorm_local(fixture: Fixture) -> dict[str, Tensor]:
    config = fixture.config
    block = BatchNormLocal(
        config["num_features"],
        group_size=config.get("virtual_bs", 8),
        affine=config.get("affine", True),
        eps=config.get("eps", 1e-5),
    )
    y = functional_call(block, fixture.tensors, fixture.inputs["x"].mT[:, None], strict=True)
    return {"y": y[:, 0].mT}


@adapter("stylegan_t", "vit_features")
def vit_features(fixture: Fixture) -> dict[str, Tensor]:
    config = fixture.config
    spec = importer.network_options(config["vit"], tuple(config["hooks"]))
    if not config["hook_patch"]:
        spec["depths"].remove(0)
    entry = catalogue.get("backbone", spec.pop("kind"))
    assert entry is not None
    block = entry.block(3, **spec).to(fixture.dtype)
    state = translate(importer.network_rules("", "model.model.", fixture.tensors), fixture.tensors, block)
    tokens = functional_call(block, state, fixture.inputs["x"] * 2 - 1)
    return {f"feat{index}": each.mT for index, each in enumerate(tokens)}


@adapter("stylegan_t", "disc_head")
def disc_head(fixture: Fixture) -> dict[str, Tensor]:
    config, inputs = fixture.config, fixture.inputs
    spec = TokenConvHead.Spec.model_validate(importer.head_options(config))
    x = inputs["x"][:, :, None]
    head = spec.build(dim=config["channels"], resolution=tuple(x.shape[2:]), cond_dim=config["c_dim"])
    head = head.to(fixture.dtype).train(config["mode"] == "train")
    rules = importer.head_rules("", "", config)
    state = movable(rules, fixture.tensors, head)
    logits = functional_call(head, state, (x, inputs.get("c")))
    after = {each.theirs[0]: state[each.ours] for each in rules}
    return {"logits": logits[:, None]} | {f"{name}_after": after[name] for name in after if name[-2:] in ("_u", "_v")}


@adapter("stylegan_t", "discriminator")
def discriminator(fixture: Fixture) -> dict[str, Tensor]:
    config, image = fixture.config, fixture.inputs["img"]
    options = config | {"img_resolution": image.shape[2]}
    network = importer.discriminator_spec(options).build(**importer.discriminator_context(options)).to(fixture.dtype)
    network.train(config["mode"] == "train")
    network.crop_probability = 0.0  # the fixture says where
    state = movable(importer.discriminator_rules(options, fixture.tensors), fixture.tensors, network)
    if config["diffaug"]:
        draws = {ours: fixture.inputs[theirs] for theirs, ours in OURS.items() if theirs in fixture.inputs}
        image = DiffAugment()(image, draws)
    if config["crop"] is not None:
        (top, left), (height, width) = config["crop"], network.networks[0].input_size
        image = image[:, :, top : top + height, left : left + width]
    return {"logits": functional_call(network, state, (image, fixture.inputs.get("c")))}


def movable(rules: list[WeightRule], tensors: dict[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """Our state, in which power iterations may change their vectors in place."""
    found = translate(rules, tensors, network)
    return {name: value.detach().clone() if name[-2:] in (".u", ".v") else value for name, value in found.items()}
