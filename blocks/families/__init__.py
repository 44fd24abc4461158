"""The families of blocks: the contract of `forward`, and the context values that a block may request.

| family | forward | context |
|---|---|---|
| attention | x [B,H,W,C] -> [B,H,W,C] | dim, resolution |
| norm | x [B,H,W,C], w [B,S] or None -> [B,H,W,C] | dim, style_dim |
| feed-forward | x [B,H,W,C] -> [B,H,W,C] | dim |
| condition | class indices [B] or tokens [B,n] -> c [B,D] | - |
| mapping | z [B,Z], c [B,D] or None -> ws [B,n,S] | z_dim, style_dim, num_styles, cond_dim |
| synthesis-input | ws [B,n,S] -> x [B,C,H,W] | style_dim |
| layer | x [B,C,H,W], ws [B,n,S] or None -> [B,C',H',W'] | dim or in_dim, resolution, style_dim |
| image-head | x, ws, image or None -> image [B,K,H',W'] | dim, resolution, style_dim, image_channels |
| stem | x or None, image -> x, image | in_dim, resolution, image_channels |
| head | x [B,C,H,W], c or None -> logits [B,...] | dim, resolution, cond_dim |
| projector | x [B,C,H,W] -> tokens [B,N,F] | in_dim, resolution |
| backbone | image -> a tuple of tokens [B,N,C] | image_channels |
| autoencoder | latents [B,C,h,w] -> image [B,K,H,W]; `moments`: image -> [B,2C,h,w] | - |
| weight-norm | weight [O,...] -> [O,...] | weight |
| augment | image -> image | - |
| loss | logits -> scalar; one method for each network | - |
| regularizer | networks, batch -> scalar | cond_dim |
| feature-extractor | images of values 0 to 255 -> features [B,F] | - |
| metric | features of generated and of real images -> numbers by name | - |
| schedule | images shown so far -> value | - |

Axes: B batch, C channels, H x W pixels, K image channels, S style features, D condition features, Z latent features, n
vectors. Feature maps are [B,C,H,W] in channels-last memory; attention, norms and feed-forward networks get a view
[B,H,W,C] of them. A block that has its output channels as an option `dim` requests its input channels as `in_dim`.
"""

from blocks.families.layout import channels_last, rows, to_channels_last, to_nchw, to_nhwc
from blocks.families.metrics import FeatureExtractor, FeatureSet, GeneratedBatch, Metric
from blocks.families.networks import (
    Attention,
    Autoencoder,
    Backbone,
    Condition,
    FeedForward,
    Head,
    ImageHead,
    Layer,
    Mapping,
    Norm,
    Projector,
    Stem,
    SynthesisInput,
    WeightNorm,
)
from blocks.families.options import Count, OddInt, Probability, Resolution
from blocks.families.schedule import CurrentValue, Schedule, Scheduled, ScheduledIn, value_at
from blocks.families.training import Augment, Batch, Loss, Networks, Regularizer

__all__ = [
    "Attention",
    "Augment",
    "Autoencoder",
    "Backbone",
    "Batch",
    "Condition",
    "Count",
    "CurrentValue",
    "FeatureExtractor",
    "FeatureSet",
    "FeedForward",
    "GeneratedBatch",
    "Head",
    "ImageHead",
    "Layer",
    "Loss",
    "Mapping",
    "Metric",
    "Networks",
    "Norm",
    "OddInt",
    "Probability",
    "Projector",
    "Regularizer",
    "Resolution",
    "Schedule",
    "Scheduled",
    "ScheduledIn",
    "Stem",
    "SynthesisInput",
    "WeightNorm",
    "channels_last",
    "rows",
    "to_channels_last",
    "to_nchw",
    "to_nhwc",
    "value_at",
]
