"""StyleGAN-T's discriminator: local batch norm, the features of the backbone, the heads, and the whole."""

from __future__ import annotations

from torch import Tensor, nn
from torch.func import functional_call

from assemblies.conversion.weight_map import WeightRule, translate
from assemblies.models.stylegan_t import architecture, checkpoint
from blocks import BatchNormLocal, DiffAugment, TokenConvHead
from registry import catalogue
from tests.golden.adapters.stylegan_t.losses import draws_of
from tests.golden.fixtures import Fixture, Outputs, adapter


@adapter("stylegan_t", "batchnorm_local")
def batchnorm_local(fixture: Fixture) -> Outputs:
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
def vit_features(fixture: Fixture) -> Outputs:
    config = fixture.config
    options = architecture.backbone_options(config["vit"], tuple(config["hooks"]))
    if not config["hook_patch"]:
        options["depths"].remove(0)
    entry = catalogue.get("backbone", options.pop("kind"))
    assert entry is not None
    block = entry.block(3, **options).to(fixture.dtype)
    rules = checkpoint.backbone_rules("", "model.model.", fixture.tensors)
    weights = translate(rules, fixture.tensors, block)
    features = functional_call(block, weights, fixture.inputs["x"] * 2 - 1)
    return {f"feat{index}": feature.mT for index, feature in enumerate(features)}


@adapter("stylegan_t", "disc_head")
def head(fixture: Fixture) -> Outputs:
    config, inputs = fixture.config, fixture.inputs
    spec = TokenConvHead.Spec.model_validate(architecture.head_options(config))
    x = inputs["x"][:, :, None]
    block = spec.build(dim=config["channels"], resolution=tuple(x.shape[2:]), cond_dim=config["c_dim"])
    block = block.to(fixture.dtype).train(config["mode"] == "train")
    rules = checkpoint.head_rules("", "", config)
    weights = movable_weights(rules, fixture.tensors, block)
    logits = functional_call(block, weights, (x, inputs.get("c")))
    after = {each.sources[0]: weights[each.target] for each in rules}
    return {"logits": logits[:, None]} | {f"{name}_after": after[name] for name in after if name[-2:] in ("_u", "_v")}


@adapter("stylegan_t", "discriminator")
def discriminator(fixture: Fixture) -> Outputs:
    config, image = fixture.config, fixture.inputs["img"]
    options = config | {"img_resolution": image.shape[2]}
    context = architecture.discriminator_context(options)
    network = architecture.discriminator_spec(options).build(**context).to(fixture.dtype)
    network.train(config["mode"] == "train")
    network.crop_probability = 0.0  # the fixture has the crop's position
    weights = movable_weights(checkpoint.discriminator_rules(options, fixture.tensors), fixture.tensors, network)
    if config["diffaug"]:
        image = DiffAugment()(image, draws_of(fixture))
    if config["crop"] is not None:
        (top, left), (height, width) = config["crop"], network.networks[0].input_size
        image = image[:, :, top : top + height, left : left + width]
    return {"logits": functional_call(network, weights, (image, fixture.inputs.get("c")))}


def movable_weights(rules: list[WeightRule], tensors: dict[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """Our weights; power iterations may change their vectors in place."""
    weights = translate(rules, tensors, network)
    return {name: value.detach().clone() if name[-2:] in (".u", ".v") else value for name, value in weights.items()}
