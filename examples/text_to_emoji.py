"""Text to image in colour: train a small CLIP on captioned emoji, then a small StyleGAN-T with its text tower.

python examples/text_to_emoji.py [--out runs/text-to-emoji] [--hours 0.3] [--guidance 0 0.2] [--device cuda]

Without --hours or --kimg it takes about 20 minutes of two CPU cores; more hours make better pictures. A real CLIP whose
weights are at hand: --clip ViT-B-32 --clip-weights FILE, or their name in open_clip, which downloads them.

Images are made of OpenMoji (https://openmoji.org), CC BY-SA 4.0; so are pictures of a model trained on it.
"""

import argparse
import time
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from assemblies import parse
from blocks.common.pretrained.guidance import preprocess
from ganblocks import generate, open_data, save_grid, train
from ganblocks.metrics.classifier.emoji import GROUPS, EmojiScore
from ganblocks.pixels import from_bytes
from ganblocks.randomness import fork_rng, seed_step
from ganblocks.sampling.generate import styles, synthesize
from plugins.emoji_presets import CLIP, emoji_stylegan_t_32
from plugins.torchvision import import_beside_torchvision

open_clip = import_beside_torchvision("open_clip")

MEAN, STD = (torch.tensor(getattr(open_clip.constants, f"OPENAI_DATASET_{name}")) for name in ("MEAN", "STD"))
PROMPTS = [
    *("red heart", "green circle", "grinning face", "crying face", "cat face", "red apple", "flag Italy", "flag Japan"),
    *("woman dark skin tone", "waving hand", "blue book", "bus"),
]
FIRST_KIMG = 2.0  # the training whose speed gives the length that fits into --hours
MAX_SHIFT = 2  # pixels


class EmojiClip:
    """A CLIP trained on captioned emoji: its text tower goes into the GAN.

    Args:
        data: Captioned images of 32 px.
        seed: Random seed.
        device: Where it is trained.
        steps: Length of the training.
        batch_size: Pairs of an image and one of its captions per step.
    """

    def __init__(self, data, seed, device, steps, batch_size=128):
        self.tokenize = open_clip.SimpleTokenizer(context_length=CLIP["text_cfg"]["context_length"])
        self.device = device
        with fork_rng():
            seed_step(seed, -1)
            self.clip = open_clip.model.CLIP(**CLIP).to(device)
            self.fit(data, steps, batch_size)

    def fit(self, data, steps, batch_size):
        """Minimise open_clip's contrastive loss, which makes the matching pairs of a batch the most similar."""
        images = self.inputs(data)
        captions = sorted({caption for each in data.captions for caption in each})
        row, tokens = {caption: number for number, caption in enumerate(captions)}, self.tokenize(captions)
        tokens, rows = tokens.to(self.device), [[row[caption] for caption in each] for each in data.captions]
        counts = torch.tensor([len(each) for each in rows], device=self.device)
        own = torch.nn.utils.rnn.pad_sequence([torch.tensor(each) for each in rows], True).to(self.device)
        loss = open_clip.loss.ClipLoss()
        optimizer = torch.optim.AdamW(self.clip.parameters(), lr=1e-3, weight_decay=1.0, fused=True)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=steps)
        for _ in range(steps):
            chosen = torch.randint(len(images), (batch_size,), device=self.device)
            caption = (torch.rand(batch_size, device=self.device) * counts[chosen]).long()
            shift = tuple(torch.randint(-MAX_SHIFT, MAX_SHIFT + 1, (2,)).tolist())
            features = self.clip.encode_image(images[chosen].roll(shift, dims=(2, 3)), normalize=True)
            texts = self.clip.encode_text(tokens[own[chosen, caption]], normalize=True)
            value = loss(features, texts, self.clip.logit_scale.exp())
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            schedule.step()
        self.clip.eval().requires_grad_(False)

    def inputs(self, data):
        return preprocess(from_bytes(data.pixels, "symmetric"), (32, 32), MEAN, STD).to(self.device)

    @torch.no_grad()
    def recall(self, data):
        """The share of images that are among the 5 nearest of their caption."""
        images = self.clip.encode_image(self.inputs(data), normalize=True)
        captions = self.tokenize([data.caption(index, 0.0) for index in range(len(data))]).to(self.device)
        nearest = (self.clip.encode_text(captions, normalize=True) @ images.T).topk(5, dim=1).indices.cpu()
        return (nearest == torch.arange(len(data))[:, None]).any(dim=1).double().mean().item()

    def save(self, path):
        save_file({name: tensor.cpu().contiguous() for name, tensor in self.clip.state_dict().items()}, path)


def spec(tower, guidance, kimg):
    """The preset with a CLIP's text tower, and guidance by the same CLIP.

    Args:
        tower: Model and weights of the CLIP.
        guidance: Weight of the guidance.
        kimg: Length in thousands of images.
    """
    document = emoji_stylegan_t_32({"kind": "open-clip-text", **tower}, kimg).to_dict()
    if guidance:
        document["regularizers"] += [{"kind": "clip-guidance", "weight": guidance, **tower}]
    return parse(document)


def train_for(seconds, document, **options):
    """Train with as many images as fit into the time, by the speed of the first ones; return their thousands too."""
    start = time.monotonic()
    train(parse(document.to_dict() | {"kimg": FIRST_KIMG}), **options)
    each = (time.monotonic() - start) / FIRST_KIMG
    left = max(0.0, seconds - (time.monotonic() - start))
    kept = {name: options[name] for name in ("out", "device")}
    kimg = round(FIRST_KIMG + left / each, 3)
    return train(resume=True, kimg=kimg, **kept), kimg


def group_accuracy(score, generator, source):
    """The shares of captions, and of groups in the mean, whose image a classifier puts into the caption's group."""
    captioned = open_data(source, resolution=32, captions=True)
    groups = open_data(source, resolution=32, cond_dim=GROUPS).labels
    prompts = [captioned.caption(index, 0.0) for index in range(len(captioned))]
    images = generate(generator, range(len(prompts)), c=generator.condition_of(prompts))
    right = score.classify(images, generator.value_range) == groups
    shares = [right[groups == group].double().mean() for group in range(GROUPS)]
    return right.double().mean().item(), torch.stack(shares).mean().item()


def save_beside_drawings(generator, source, path, count=48, columns=16):
    """Drawings, evenly spaced in the data, and below each the image of its caption."""
    data = open_data(source, resolution=32, captions=True)
    chosen = range(0, len(data), len(data) // (count - 1))[:count]
    c = generator.condition_of([data.caption(index, 0.0) for index in chosen])
    drawings = from_bytes(data.pixels[list(chosen)], "symmetric")
    rows = zip(drawings.split(columns), generate(generator, range(len(chosen)), c=c).split(columns), strict=True)
    save_grid(torch.cat([each for pair in rows for each in pair]), path, columns=columns, scale=2)


@torch.no_grad()
def pictures(generator, out):
    """Pictures of prompts, of interpolation between them, and of one prompt's coarse and another's fine styles."""
    conditions = generator.condition_of(PROMPTS)
    grid = torch.cat([generate(generator, range(10), c=c) for c in conditions])
    save_grid(grid, out / "prompts.png", columns=10, scale=2, row_labels=PROMPTS)
    rows = []
    for first, second in ((0, 1), (2, 4), (6, 7)):  # between two prompts, along the sphere of normalised embeddings
        steps = torch.linspace(0, 1, 12, device=conditions.device)
        c = F.normalize(torch.stack([conditions[first].lerp(conditions[second], step) for step in steps]), dim=1)
        rows.append(generate(generator, [0] * len(steps), c=c))
    save_grid(torch.cat(rows), out / "interpolation.png", columns=12, scale=2)
    ws = torch.cat([styles(generator, [0], c=c) for c in conditions])
    half = generator.num_ws // 2
    mixed = [torch.cat([ws[row, :half], ws[column, half:]]) for row in range(len(ws)) for column in range(len(ws))]
    images = torch.cat(list(synthesize(generator, torch.stack(mixed))))
    save_grid(images, out / "style-mixing.png", columns=len(ws), scale=2, row_labels=PROMPTS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/text-to-emoji"))
    parser.add_argument("--data", default="emoji")
    parser.add_argument("--held-out", default="emoji?split=held-out")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kimg", type=float, default=25, help="length of a GAN's training, in thousands of images")
    parser.add_argument("--hours", type=float, help="length of a GAN's training in place of --kimg")
    parser.add_argument(
        "--clip", metavar="MODEL", help="one of open_clip's models, such as ViT-B-32; default: train one"
    )
    parser.add_argument("--clip-weights", default="openai", metavar="NAME", help="its weights: a name or a file")
    parser.add_argument("--clip-steps", type=int, default=600, help="length of the training of the small CLIP")
    parser.add_argument("--guidance", type=float, nargs="+", default=[0.0], help="weights of CLIP guidance, a GAN each")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)

    data = open_data(args.data, resolution=32, captions=True)
    print(f"{len(data)} emoji with captions such as {', '.join(map(repr, data.captions[0]))}")
    tower = {"model": args.clip, "weights": args.clip_weights}
    if args.clip is None:
        tower = {"model": CLIP, "weights": str(args.out / "clip.safetensors")}
        clip = EmojiClip(data, args.seed, args.device, args.clip_steps)
        clip.save(tower["weights"])
        held_out = open_data(args.held_out, resolution=32, captions=True)
        print(f"CLIP: {clip.recall(held_out):.1%} of held-out images are among the 5 nearest of their caption")
    score = EmojiScore(32, train=args.data, held_out=args.held_out)
    for guidance in args.guidance:
        out = args.out if args.guidance == [guidance] else args.out / f"guidance-{guidance:g}"
        options = {"data": data, "out": out / "gan", "seed": args.seed, "device": args.device}
        options |= {"cuda_graphs": True} if args.device.startswith("cuda") else {}
        document = spec(tower, guidance, args.kimg)
        if args.hours:
            run, kimg = train_for(3600 * args.hours, document, **options)
        else:
            run, kimg = train(document, **options), args.kimg
        for name, source in (("held-out", args.held_out), ("training", args.data)):
            share, by_group = group_accuracy(score, run.generator, source)
            shares = f"{share:.1%} of {name} captions, {by_group:.1%} by group"
            save_beside_drawings(run.generator, source, out / f"{name}-captions.png")
            print(f"guidance {guidance:g}, {kimg:g} kimg: the classifier reads the caption's group for {shares}")
        pictures(run.generator, out)
        print(f"pictures: {out}/*.png")
    print(f"(the classifier reads the right group of {score.accuracy:.1%} of held-out drawings)")


if __name__ == "__main__":
    main()
