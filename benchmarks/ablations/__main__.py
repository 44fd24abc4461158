"""Ablations: trains the variants of a study with several seeds under one protocol, and compares their scores.

python -m benchmarks.ablations STUDY [VARIANT ...] [--seeds 3] [--kimg 40] [--processes 2] [--device cuda]

Studies of emoji:
  stylenat          partitions of heads, local and global or progressive dilations, flips (StyleNAT, tables 3 and 4)
  styleformer       position of LayerNorm, residual connection, feed-forward network (Styleformer)
  vitgan            each of its parts replaced (ViTGAN)
  stylegan-t        residual convolutions, second-order styles, text beside the mapping, guidance (StyleGAN-T, table 1)
  search            candidates for a GAN of emoji: presets, other networks and losses, hybrids (docs/emoji.md)
Studies of digits:
  digits-vitgan     as vitgan, with mini-vitgan
  digits-r3gan      StyleGAN2's networks against R3GAN's, with three losses each (R3GAN)
  digits-positions  mini-stylenat with relative position bias, rotary position embedding, both or neither in HydraNA

Each run is one process on one thread. Complete runs are not repeated, so the command can be interrupted and repeated,
also with more seeds. It writes table.md, scores.png and samples.png into --out, and JSON into benchmarks/results. Each
run has a picture nearest.png: samples, and below each the training image nearest to it.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict, replace
from pathlib import Path

import torch

from benchmarks import measure
from benchmarks.ablations.report import save_plot, save_samples, table
from benchmarks.ablations.runs import Protocol, measure_all, score_of
from benchmarks.ablations.variants import STUDIES
from registry.spec_file import write_atomically


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", choices=STUDIES, metavar="STUDY", help="variants to compare")
    parser.add_argument("variants", nargs="*", metavar="VARIANT", help="some of its variants [all]")
    parser.add_argument("--seeds", type=int, default=3, help="runs per variant, with seeds 0, 1, ... [3]")
    parser.add_argument("--kimg", type=float, help="length of a run, in thousands of images [the study's]")
    parser.add_argument("--batch-size", type=int, help="images per step [the preset's]")
    parser.add_argument("--processes", type=int, default=2, help="parallel runs, each on one thread [2]")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="device of the runs")
    parser.add_argument("--out", type=Path, help="folder of the runs [runs/ablation-STUDY]")
    parser.add_argument("--output", type=Path, help="JSON file [benchmarks/results/ablations/STUDY-DEVICE.json]")
    args = parser.parse_args()
    study = STUDIES[args.study]
    if unknown := set(args.variants) - study.variants.keys():
        parser.error(f"{args.study} has no variants {sorted(unknown)}; valid: {', '.join(study.variants)}")
    study = replace(study, variants={name: study.variants[name] for name in args.variants or study.variants})
    out = args.out or Path(f"runs/ablation-{args.study}")
    output = args.output or measure.RESULTS / "ablations" / f"{args.study}-{measure.device_slug(args.device)}.json"
    machine = measure.machine(args.device)
    protocol = Protocol(out, args.kimg or study.kimg, args.batch_size, args.device)
    results = measure_all(study, protocol, args.seeds, args.processes)
    measure.save(output, machine, [asdict(result) for result in results])
    markdown = table(results)
    print(markdown)
    write_atomically(out / "table.md", (markdown + "\n").encode())
    save_plot(results, out / "scores.png", {"held-out images": score_of(study.data).floor})
    save_samples(results, protocol, out / "samples.png")
    print(f"pictures: {out / 'scores.png'}, {out / 'samples.png'}")


if __name__ == "__main__":
    main()
