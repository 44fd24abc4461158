"""What this package registers: topologies of generators and discriminators, the GAN document, and presets."""

from __future__ import annotations

from assemblies.discriminator import LayeredDiscriminator
from assemblies.gan import GAN
from assemblies.generator import LayeredGenerator
from assemblies.presets import styleformer, stylegan2, stylegan_t, stylegan_t_recipe, stylenat, vitgan
from assemblies.projected import ProjectedDiscriminator
from assemblies.stages import Recipe
from registry import Register, RegisterPreset, hookimpl


@hookimpl
def register_blocks(register: Register) -> None:
    for block in (GAN, LayeredDiscriminator, LayeredGenerator, ProjectedDiscriminator, Recipe):
        register(block)


@hookimpl
def register_presets(register: RegisterPreset) -> None:
    """A preset's name is its function's, with hyphens."""
    for document in (
        styleformer.mini_styleformer,
        styleformer.styleformer_c_256,
        styleformer.styleformer_c_1024,
        styleformer.styleformer_celeba_64,
        styleformer.styleformer_church_128,
        styleformer.styleformer_cifar10_32,
        styleformer.styleformer_stl10_48,
        stylegan2.stylegan2_ffhq_256,
        stylegan_t.mini_stylegan_t,
        stylegan_t.stylegan_t_64,
        stylegan_t.stylegan_t_256,
        stylegan_t.stylegan_t_512,
        stylegan_t.stylegan_t_lite_64,
        stylegan_t.stylegan_t_lite_256,
        stylegan_t.stylegan_t_lite_512,
        stylegan_t_recipe.stylegan_t_lite_recipe_256,
        stylegan_t_recipe.stylegan_t_recipe_512,
        stylenat.mini_stylenat,
        stylenat.stylenat_church_256,
        stylenat.stylenat_ffhq_256,
        stylenat.stylenat_ffhq_1024,
        stylenat.styleswin_ffhq_256,
        vitgan.mini_vitgan,
        vitgan.vitgan_bedroom_64,
        vitgan.vitgan_bedroom_128,
        vitgan.vitgan_celeba_64,
        vitgan.vitgan_cifar10_32,
        vitgan.vitgan_official_cifar10_32,
        vitgan.vitgan_official_inr_cifar10_32,
    ):
        register(document.__name__.replace("_", "-"), document)
