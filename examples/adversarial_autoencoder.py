"""An autoencoder of a photograph, trained without and with a projected discriminator; the loop is plain PyTorch.

python examples/adversarial_autoencoder.py [picture.png]   (under three minutes on two CPU cores)

The discriminator reads features of the autoencoder's own encoder, frozen and mixed: Projected GANs, Sauer et al. 2021,
https://arxiv.org/abs/2111.01007. The adaptive weight: VQ-GAN, Esser et al. 2020, https://arxiv.org/abs/2012.09841,
section 3.2.
"""

import copy
import sys
from itertools import pairwise

import torch
from PIL import Image
from sklearn.datasets import load_sample_image
from torch import nn
from torch.nn import functional as F

from blocks import Conv, FeatureMixing, FromRGB, Hinge, PatchHead, ResidualConv, Upsample
from blocks.metric.frechet import frechet_distance, gaussian_of

SIDE, BATCH, DIMS, CODE_DIM = 32, 16, (24, 32, 64), 4  # 32 x 32 x 3 numbers -> 8 x 8 x 4
STEPS = 500, 600  # with reconstruction alone, then with or without discriminator
PHOTO = torch.tensor(load_sample_image("china.jpg")).movedim(2, 0) / 127.5 - 1  # in [-1,1]
TRAINING, HELD_OUT = torch.cat([PHOTO[:, :, :240], PHOTO[:, :, :240].flip(2)], dim=2), PHOTO[:, :, 240:]


class Features(nn.Module):
    """Maps of an image [B,3,H,W] at H x W, H/2 x W/2, ... pixels."""

    def __init__(self):
        super().__init__()
        self.stem = FromRGB(3, dim=DIMS[0])
        self.layers = nn.ModuleList(ResidualConv(dim, (SIDE, SIDE), dim=next_dim) for dim, next_dim in pairwise(DIMS))

    def forward(self, image):
        maps = [self.stem(None, image)[0]]
        for layer in self.layers:
            maps.append(layer(maps[-1]))
        return maps


class Autoencoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.features, self.to_code = Features(), Conv(DIMS[-1], dim=CODE_DIM, kernel_size=1, activation="linear")
        up = [layer for dim, next_dim in pairwise(DIMS[::-1]) for layer in (Upsample(), Conv(dim, dim=next_dim))]
        self.decoder, self.to_rgb = nn.Sequential(Conv(CODE_DIM, dim=DIMS[-1]), *up), nn.Conv2d(DIMS[0], 3, 1)

    def forward(self, image):
        return self.to_rgb(self.decoder(self.to_code(self.features(image)[-1])))


class Projected(nn.Module):
    """Logits of patches at all but the last depth of frozen features."""

    def __init__(self, features):
        super().__init__()
        self.features = copy.deepcopy(features).requires_grad_(False)
        self.mixing = FeatureMixing(DIMS[:-1], across_scales=True)
        self.heads = nn.ModuleList(nn.Sequential(Conv(dim, dim=32), PatchHead(32)) for dim in DIMS[:-1])

    def forward(self, image):
        maps = self.mixing(self.features(image)[:-1])
        return torch.cat([head(each) for head, each in zip(self.heads, maps, strict=True)], dim=1)


def crops(photo, number=BATCH):
    tops, lefts = (torch.randint(size - SIDE + 1, (number,)).tolist() for size in photo.shape[1:])
    return torch.stack([photo[:, i : i + SIDE, j : j + SIDE] for i, j in zip(tops, lefts, strict=True)])


def step(optimizer, loss):
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def train(model, steps, discriminator=None, factor=1.0):
    optimizer, loss = torch.optim.Adam(model.parameters(), lr=2e-3, betas=(0.5, 0.99)), Hinge()
    decay = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda done: min(1, 2 - 2 * done / steps))
    if discriminator is not None:
        of_heads = torch.optim.Adam(discriminator.heads.parameters(), lr=8e-3, betas=(0.0, 0.99))
    for _ in range(steps):
        images = crops(TRAINING)
        output = model(images)
        total = F.l1_loss(output, images)
        if discriminator is not None:
            step(of_heads, loss.discriminator(discriminator(images), discriminator(output.detach())))
            adversarial, last = loss.generator(discriminator(output)), model.to_rgb.weight
            norms = [torch.autograd.grad(each, last, retain_graph=True)[0].norm() for each in (total, adversarial)]
            total = total + factor * norms[0] / (norms[1] + 1e-4) * adversarial
        step(optimizer, total)
        decay.step()
    return model


@torch.no_grad()
def distance(features, first, second):
    """Fréchet distance of two sets of images in the contrast of each channel at each depth, which blur lowers."""
    contrasts = [torch.cat([each.std((2, 3)) for each in features(images)], dim=1) for images in (first, second)]
    return frechet_distance(*gaussian_of(contrasts[0]), *gaussian_of(contrasts[1]))


def main():
    torch.manual_seed(0)
    judge, images = Features(), crops(HELD_OUT, 1000)  # a network with random weights that no training reads
    start = train(Autoencoder(), STEPS[0])
    models = {
        "without": train(copy.deepcopy(start), STEPS[1]),
        "with": train(copy.deepcopy(start), STEPS[1], Projected(start.features)),
    }
    region = HELD_OUT[None, :, 235:363, :128]
    rows = [region]
    for name, model in models.items():
        with torch.no_grad():
            output = torch.cat([model(each) for each in images.split(100)])
            rows.append(model(region))
        error, fd = F.l1_loss(output, images).item(), distance(judge, images, output)
        print(f"{name} discriminator: mean absolute error {error:.3f}, Fréchet distance {fd:.3f}")
    pixels = F.interpolate(torch.cat(rows, dim=3), scale_factor=2)[0].add(1).mul(127.5).clamp(0, 255).byte()
    Image.fromarray(pixels.movedim(0, 2).numpy()).save(sys.argv[1] if len(sys.argv) > 1 else "autoencoder.png")


if __name__ == "__main__":
    main()
