"""Text to image in colour: train a small CLIP on captioned emoji, then a small StyleGAN-T with its text tower.

python examples/text_to_emoji.py [--out runs/text-to-emoji] [--kimg 60] [--guidance 0.2] [--device cuda]

Images are made of OpenMoji (https://openmoji.org), CC BY-SA 4.0; so are pictures of a model trained on it.
"""

import argparse
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from assemblies import parse
from blocks.common.pretrained.guidance import preprocess
from ganblocks import generate, open_data, save_grid, train
from ganblocks.metrics.classifier.emoji import EmojiScore
from ganblocks.pixels import from_bytes
from ganblocks.randomness import fork_rng, seed_step
from plugins.emoji_presets import CLIP, emoji_stylegan_t_32
from plugins.torchvision import import_beside_torchvision

open_clip = import_beside_torchvision("open_clip")

MEAN, STD = (torch.tensor(getattr(open_clip.constants, f"OPENAI_DATASET_{name}")) for name in ("MEAN", "STD"))
PROMPTS = [
    *("red heart", "green circle", "grinning face", "crying face", "cat face", "red apple", "flag Italy", "flag Japan"),
    *("woman dark skin tone", "waving hand", "blue book", "bus"),
]


class EmojiClip:
    """A CLIP trained on captioned emoji: its text tower goes into the GAN."""

    def __init__(self, data, seed, device, steps, batch_size=128):
        self.data, self.device = data, device
        self.tokenize = open_clip.SimpleTokenizer(context_length=CLIP["text_cfg"]["context_length"])
        with fork_rng():
            seed_step(seed, -1)
            self.clip = open_clip.model.CLIP(**CLIP).to(device)
            self.fit(steps, batch_size)

    def fit(self, steps, batch_size):
        """Minimise open_clip's contrastive loss, which makes the matching pairs of a batch the most similar."""
        images = preprocess(from_bytes(self.data.pixels, "symmetric"), (32, 32), MEAN, STD).to(self.device)
        captions = sorted({caption for each in self.data.captions for caption in each})
        row, tokens = {caption: number for number, caption in enumerate(captions)}, self.tokenize(captions)
        loss = open_clip.loss.ClipLoss()
        optimizer = torch.optim.AdamW(self.clip.parameters(), lr=1e-3, weight_decay=0.2)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=steps)
        for _ in range(steps):
            chosen = torch.randint(len(images), (batch_size,))
            own = [row[self.data.caption(int(index), float(torch.rand(())))] for index in chosen]
            shift = tuple(torch.randint(-2, 3, (2,)).tolist())
            shifted = images[chosen.to(self.device)].roll(shift, dims=(2, 3))
            features = self.clip.encode_image(shifted, normalize=True)
            texts = self.clip.encode_text(tokens[own].to(self.device), normalize=True)
            value = loss(features, texts, self.clip.logit_scale.exp())
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            schedule.step()
        self.clip.eval().requires_grad_(False)

    def save(self, path):
        save_file({name: tensor.cpu().contiguous() for name, tensor in self.clip.state_dict().items()}, path)


def spec(weights, guidance, kimg):
    """The preset with the CLIP's text tower, and guidance by the same CLIP."""
    tower = {"model": CLIP, "weights": str(weights)}
    document = emoji_stylegan_t_32({"kind": "open-clip-text", **tower}, kimg).to_dict()
    if guidance:
        document["regularizers"] += [{"kind": "clip-guidance", "weight": guidance, **tower}]
    return parse(document)


def group_accuracy(score, generator, source):
    """The shares of captions, and of groups in the mean, whose image a classifier puts into the caption's group."""
    captioned = open_data(source, resolution=32, captions=True)
    groups = open_data(source, resolution=32, cond_dim=9).labels
    prompts = [captioned.caption(index, 0.0) for index in range(len(captioned))]
    right = score.classify(generate(generator, range(len(prompts)), c=generator.condition_of(prompts))) == groups
    shares = [right[groups == group].double().mean() for group in range(9)]
    return right.double().mean().item(), torch.stack(shares).mean().item()


@torch.no_grad()
def pictures(generator, out):
    conditions = generator.condition_of(PROMPTS)
    grid = torch.cat([generate(generator, range(10), c=c) for c in conditions])
    save_grid(grid, out / "prompts.png", columns=10, scale=2, row_labels=PROMPTS)
    rows = []
    for first, second in ((0, 1), (2, 4), (6, 7)):  # between two prompts, along the sphere of normalised embeddings
        steps = torch.linspace(0, 1, 12, device=conditions.device)
        c = F.normalize(torch.stack([conditions[first].lerp(conditions[second], step) for step in steps]), dim=1)
        rows.append(generate(generator, [0] * len(steps), c=c))
    save_grid(torch.cat(rows), out / "interpolation.png", columns=12, scale=2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/text-to-emoji"))
    parser.add_argument("--data", default="emoji")
    parser.add_argument("--held-out", default="emoji?split=held-out")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kimg", type=float, default=60)
    parser.add_argument("--clip-steps", type=int, default=600)
    parser.add_argument("--guidance", type=float, default=0.0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)

    data = open_data(args.data, resolution=32, captions=True)
    print(f"{len(data)} emoji with captions such as {', '.join(map(repr, data.captions[0]))}")
    weights = args.out / "clip.safetensors"
    EmojiClip(data, args.seed, args.device, args.clip_steps).save(weights)
    graphs = {"cuda_graphs": True} if args.device.startswith("cuda") else {}
    document = spec(weights, args.guidance, args.kimg)
    trained = train(document, data=data, out=args.out / "gan", seed=args.seed, device=args.device, **graphs).generator

    score = EmojiScore(32, train=args.data, held_out=args.held_out)
    for name, source in (("held-out", args.held_out), ("training", args.data)):
        accuracy, balanced = group_accuracy(score, trained, source)
        print(
            f"the classifier reads the caption's group for {accuracy:.1%} of {name} captions, {balanced:.1%} by group"
        )
    print(f"(it reads the right group of {score.accuracy:.1%} of held-out drawings)")
    pictures(trained, args.out)
    print(f"pictures: prompts.png and interpolation.png in {args.out}")


if __name__ == "__main__":
    main()
