"""Building blocks: torch modules, one idea a file. Import them from here, or name them by kind in a spec."""

from blocks.attention.dense import DenseAttention
from blocks.attention.hydra import HydraNA
from blocks.attention.l2 import L2Attention
from blocks.attention.linformer import Linformer
from blocks.attention.mixed_heads import MixedHeads
from blocks.attention.neighborhood import NeighborhoodAttention
from blocks.attention.shifted_window import ShiftedWindowAttention
from blocks.augment.ada import ADA
from blocks.augment.apa import APA
from blocks.augment.diff_augment import DiffAugment
from blocks.augment.fading_blur import FadingBlur
from blocks.autoencoder.convolutional import ConvAutoencoder
from blocks.common.equalized import EqualConv2d, EqualLinear
from blocks.common.noise import Noise, noise_mode
from blocks.common.pretrained.feature_mixing import FeatureMixing
from blocks.condition.class_labels import ClassLabels
from blocks.feature_extractor.torchscript import TorchScriptExtractor
from blocks.feed_forward.identity import Identity
from blocks.feed_forward.mlp import MLP
from blocks.feed_forward.swiglu import SwiGLU
from blocks.head.class_projection import ClassProjection
from blocks.head.class_token import ClassTokenHead
from blocks.head.contrad import ContraDHead
from blocks.head.discriminative_basis import DiscriminativeBasis
from blocks.head.linear import LinearHead
from blocks.head.patch import PatchHead
from blocks.head.token_conv import TokenConvHead
from blocks.image_head.inr_patches import INRPatches
from blocks.image_head.linear_patches import LinearPatches
from blocks.image_head.linear_to_rgb import LinearToRGB
from blocks.image_head.modulated_patches import ModulatedPatches
from blocks.image_head.siren_patches import SirenPatches
from blocks.image_head.to_rgb import ToRGB
from blocks.layer.adaln_transformer import AdaLNTransformer
from blocks.layer.conv import Conv
from blocks.layer.downsample import Downsample
from blocks.layer.minibatch_std import MinibatchStd
from blocks.layer.modulated_conv import ModulatedConv
from blocks.layer.norm import Normalize
from blocks.layer.pointwise import Pointwise
from blocks.layer.pos_embed import PosEmbed
from blocks.layer.residual import Residual
from blocks.layer.residual_conv import ResidualConv
from blocks.layer.resnext import ResNeXtBlock
from blocks.layer.styled_attention import StyledAttention
from blocks.layer.text.cross_attention import CrossAttention
from blocks.layer.transformer import Transformer
from blocks.layer.upsample import Upsample
from blocks.layer.upsample_linear import UpsampleLinear
from blocks.loss.hinge import Hinge
from blocks.loss.non_saturating import NonSaturating
from blocks.loss.relativistic import Relativistic
from blocks.loss.wasserstein import Wasserstein
from blocks.mapping.bypass import BypassMapping
from blocks.mapping.class_mapping import ClassMapping
from blocks.mapping.mapping import MappingNetwork
from blocks.mapping.no_mapping import NoMapping
from blocks.mapping.text_mapping import TextMapping
from blocks.metric.frechet import FD, FID
from blocks.metric.perceptual_path_length import PerceptualPathLength
from blocks.norm.adain import AdaIN
from blocks.norm.batch_norm_local import BatchNormLocal
from blocks.norm.group_norm import GroupNorm
from blocks.norm.layer_norm import LayerNorm
from blocks.norm.layer_scale import LayerScale
from blocks.norm.pixel_norm import PixelNorm
from blocks.norm.rms_norm import RMSNorm
from blocks.norm.sln import SelfModulatedLayerNorm
from blocks.projector.token_projector import TokenProjector
from blocks.regularizer.approximate_r1 import ApproximateR1
from blocks.regularizer.approximate_r2 import ApproximateR2
from blocks.regularizer.balanced_consistency import BalancedConsistency
from blocks.regularizer.gradient_penalty import GradientPenalty
from blocks.regularizer.lecam import LeCam
from blocks.regularizer.matching_aware import MatchingAware
from blocks.regularizer.path_length import PathLength
from blocks.regularizer.r1 import R1
from blocks.regularizer.r2 import R2
from blocks.regularizer.token_alignment import TokenAlignment
from blocks.schedule.constant import ConstantSchedule
from blocks.schedule.cosine import CosineSchedule
from blocks.schedule.linear import LinearSchedule
from blocks.schedule.step import StepSchedule
from blocks.stem.from_rgb import FromRGB
from blocks.stem.from_wavelets import FromWavelets
from blocks.stem.linear_from_rgb import LinearFromRGB
from blocks.stem.noised_levels import NoisedLevels
from blocks.stem.overlapping_patches import OverlappingPatches
from blocks.synthesis_input.constant import Constant
from blocks.synthesis_input.fourier_features import FourierFeatures
from blocks.synthesis_input.generative_basis import GenerativeBasis
from blocks.synthesis_input.learned_tokens import LearnedTokens
from blocks.synthesis_input.sinusoidal_tokens import SinusoidalTokens
from blocks.weight_norm.apply import normalize_weights
from blocks.weight_norm.improved_spectral import ImprovedSpectralNorm
from blocks.weight_norm.spectral import SpectralNorm

__all__ = [
    "ADA",
    "APA",
    "FD",
    "FID",
    "MLP",
    "R1",
    "R2",
    "AdaIN",
    "AdaLNTransformer",
    "ApproximateR1",
    "ApproximateR2",
    "BalancedConsistency",
    "BatchNormLocal",
    "BypassMapping",
    "ClassLabels",
    "ClassMapping",
    "ClassProjection",
    "ClassTokenHead",
    "Constant",
    "ConstantSchedule",
    "ContraDHead",
    "Conv",
    "ConvAutoencoder",
    "CosineSchedule",
    "CrossAttention",
    "DenseAttention",
    "DiffAugment",
    "DiscriminativeBasis",
    "Downsample",
    "EqualConv2d",
    "EqualLinear",
    "FadingBlur",
    "FeatureMixing",
    "FourierFeatures",
    "FromRGB",
    "FromWavelets",
    "GenerativeBasis",
    "GradientPenalty",
    "GroupNorm",
    "Hinge",
    "HydraNA",
    "INRPatches",
    "Identity",
    "ImprovedSpectralNorm",
    "L2Attention",
    "LayerNorm",
    "LayerScale",
    "LeCam",
    "LearnedTokens",
    "LinearFromRGB",
    "LinearHead",
    "LinearPatches",
    "LinearSchedule",
    "LinearToRGB",
    "Linformer",
    "MappingNetwork",
    "MatchingAware",
    "MinibatchStd",
    "MixedHeads",
    "ModulatedConv",
    "ModulatedPatches",
    "NeighborhoodAttention",
    "NoMapping",
    "Noise",
    "NoisedLevels",
    "NonSaturating",
    "Normalize",
    "OverlappingPatches",
    "PatchHead",
    "PathLength",
    "PerceptualPathLength",
    "PixelNorm",
    "Pointwise",
    "PosEmbed",
    "RMSNorm",
    "Relativistic",
    "ResNeXtBlock",
    "Residual",
    "ResidualConv",
    "SelfModulatedLayerNorm",
    "ShiftedWindowAttention",
    "SinusoidalTokens",
    "SirenPatches",
    "SpectralNorm",
    "StepSchedule",
    "StyledAttention",
    "SwiGLU",
    "TextMapping",
    "ToRGB",
    "TokenAlignment",
    "TokenConvHead",
    "TokenProjector",
    "TorchScriptExtractor",
    "Transformer",
    "Upsample",
    "UpsampleLinear",
    "Wasserstein",
    "noise_mode",
    "normalize_weights",
]
