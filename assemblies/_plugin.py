"""What this package registers: topologies of generators and discriminators, the GAN document, and presets."""

from __future__ import annotations

from assemblies.discriminator import LayeredDiscriminator
from assemblies.gan import GAN
from assemblies.generator import LayeredGenerator
from assemblies.models.styleformer import presets as styleformer
from assemblies.models.stylegan2 import presets as stylegan2
from assemblies.models.stylegan_t import multi_stage_presets as stylegan_t_recipe
from assemblies.models.stylegan_t import presets as stylegan_t
from assemblies.models.stylenat import presets as stylenat
from assemblies.models.vitgan import presets as vitgan
from assemblies.multi_stage import MultiStage
from assemblies.projected import ProjectedDiscriminator
from registry import Register, RegisterPreset, hookimpl


@hookimpl
def register_blocks(register: Register) -> None:
    for block in (GAN, LayeredDiscriminator, LayeredGenerator, ProjectedDiscriminator, MultiStage):
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
        stylegan_t_recipe.stylegan_t_lite_multi_stage_256,
        stylegan_t_recipe.stylegan_t_multi_stage_512,
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
