"""Text to image on two CPU cores: train a tiny CLIP on captioned digits, then a small StyleGAN-T with its text tower.

python examples/text_to_digits.py [--out runs/text-to-digits] [--seed 0] [--kimg 20]   (about three minutes)
"""

import argparse
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from assemblies import check, parse
from assemblies.models.stylegan_t.presets import mini_stylegan_t
from blocks.common.pretrained.guidance import preprocess
from ganblocks import DigitScore, generate, open_data, save_grid, train
from ganblocks.data.digits import DIGIT_WORDS, digits
from ganblocks.pixels import from_bytes
from ganblocks.randomness import fork_rng, seed_step
from plugins.torchvision import import_beside_torchvision

open_clip = import_beside_torchvision("open_clip")

# open_clip's configuration of both towers: 16 patches per image, 9 tokens per caption.
CLIP = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 16, "patch_size": 4, "width": 64, "head_width": 32, "layers": 2},
    "text_cfg": {"context_length": 9, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}
MEAN, STD = (torch.tensor(getattr(open_clip.constants, f"OPENAI_DATASET_{name}")) for name in ("MEAN", "STD"))
PROMPTS = [f"a handwritten {word}" for word in DIGIT_WORDS]


class DigitClip:
    """A CLIP trained on captioned digits: its towers go into the GAN, its scores evaluate the images."""

    def __init__(self, data, seed, steps=500, batch_size=64):
        self.images = clip_input(from_bytes(data.pixels, "symmetric"))
        self.tokenize = open_clip.SimpleTokenizer(context_length=CLIP["text_cfg"]["context_length"])
        with fork_rng():
            seed_step(seed, -1)
            self.clip = open_clip.model.CLIP(**CLIP)
            self.fit(data, steps, batch_size)

    def fit(self, data, steps, batch_size):
        """Minimise open_clip's contrastive loss, which makes the matching pairs of a batch the most similar."""
        loss = open_clip.loss.ClipLoss()
        optimizer = torch.optim.AdamW(self.clip.parameters(), lr=2e-3, weight_decay=0.01, fused=True)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
        for _ in range(steps):
            chosen = torch.randint(len(self.images), (batch_size,))
            captions = [data.caption(int(index), float(torch.rand(()))) for index in chosen]
            shift = tuple(torch.randint(-1, 2, (2,)).tolist())
            images = self.clip.encode_image(self.images[chosen].roll(shift, dims=(2, 3)), normalize=True)
            distinct = sorted(set(captions))  # each caption is encoded once
            texts = self.clip.encode_text(self.tokenize(distinct), normalize=True)
            texts = texts[[distinct.index(caption) for caption in captions]]
            value = loss(images, texts, self.clip.logit_scale.exp())
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            schedule.step()
        self.clip.eval().requires_grad_(False)

    def texts(self, captions):
        return self.clip.encode_text(self.tokenize(captions), normalize=True)

    def of_images(self, images):
        return self.clip.encode_image(clip_input(images), normalize=True)

    def score(self, images, captions):
        """CLIP score: the mean cosine of images and the captions that they were made for."""
        return (self.of_images(images) * self.texts(captions)).sum(dim=1).mean().item()

    def accuracy(self, images, labels):
        """The share of images that are nearest to the prompt of their own digit."""
        return ((self.of_images(images) @ self.texts(PROMPTS).T).argmax(dim=1) == labels).double().mean().item()


def clip_input(images):
    return preprocess(images, (16, 16), MEAN, STD)


def spec(weights, guidance, kimg):
    """The preset with captions in place of classes, and guidance by the same CLIP."""
    tower = {"model": CLIP, "weights": str(weights)}
    document = mini_stylegan_t({"kind": "open-clip-text", **tower}, CLIP["embed_dim"]).to_dict() | {"kimg": kimg}
    if guidance:
        document["regularizers"] += [{"kind": "clip-guidance", "weight": guidance, **tower}]
    return parse(document)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/text-to-digits"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kimg", type=float, default=20)
    out, seed, kimg = vars(parser.parse_args()).values()
    out.mkdir(parents=True, exist_ok=True)

    data = open_data("digits", resolution=16, image_channels=1, cond_dim=10, captions=True)
    print(f"{len(data)} digits with captions such as {', '.join(map(repr, data.captions[0]))}")
    clip = DigitClip(data, seed)
    held_out = digits("held-out", 16)
    reals = from_bytes(held_out.pixels, "symmetric")
    print(f"the CLIP chooses the right prompt for {clip.accuracy(reals, held_out.labels):.1%} of held-out digits")
    weights = out / "clip.safetensors"
    save_file(clip.clip.state_dict(), weights)

    score, shown = DigitScore(16), range(50)
    for name, guidance in (("without guidance", 0.0), ("with guidance", 0.2)):
        document = spec(weights, guidance, kimg)
        if not guidance:
            for network, trace in check(document).items():
                print(f"{network}: {len(trace.steps)} steps, {trace.parameters:,} parameters")
        trained = train(document, data=data, out=out / name.replace(" ", "-"), seed=seed).generator
        prompts = [prompt for prompt in PROMPTS for _ in shown]
        images = generate(trained, [*shown] * len(PROMPTS), c=trained.condition_of(prompts))
        digits_of_prompts = torch.arange(10).repeat_interleave(len(shown))
        accuracy = (score.classify(images) == digits_of_prompts).double().mean().item()
        print(f"{name}: a classifier recognises the prompted digit in {accuracy:.1%} of {len(images)} images,")
        print(f"  CLIP score {clip.score(images, prompts):.3f}, Fréchet distance {score.distance(images):.2f}")
        print(f"  (real digits: CLIP score {clip.score(reals, [PROMPTS[i] for i in held_out.labels]):.3f})")
    pictures(trained, out)
    print(
        f"pictures: prompts.png, truncation.png and interpolation.png in {out}; more by e.g.\n  ganblocks sample "
        f"'{out}/with-guidance' --prompt 'the digit seven' --allow-external"
    )


@torch.no_grad()
def pictures(generator, out):
    conditions = generator.condition_of(PROMPTS)
    grid = torch.cat([generate(generator, range(12), c=c) for c in conditions])
    save_grid(grid, out / "prompts.png", columns=12, scale=2, row_labels=PROMPTS)
    psis = (1.0, 0.75, 0.5, 0.25, 0.0)
    sweep = torch.cat([generate(generator, range(10), c=conditions, truncation_psi=psi) for psi in psis])
    save_grid(sweep, out / "truncation.png", columns=10, scale=2, row_labels=[f"psi {psi:g}" for psi in psis])
    steps = torch.linspace(0, 1, 12)
    rows = []
    for seed in range(4):  # between two prompts, along the sphere of normalised embeddings
        c = F.normalize(torch.stack([conditions[1].lerp(conditions[8], step) for step in steps]), dim=1)
        rows.append(generate(generator, [seed] * len(steps), c=c))
    save_grid(torch.cat(rows), out / "interpolation.png", columns=12, scale=2)


if __name__ == "__main__":
    main()
