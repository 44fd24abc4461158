"""Sample an exported generator with onnxruntime and NumPy alone.

ganblocks export RUN_OR_MODEL exported
python examples/sample_onnx.py exported samples.png
"""

import json
import sys
from pathlib import Path

import numpy as np
from onnxruntime import InferenceSession
from PIL import Image

folder, picture = Path(sys.argv[1]), sys.argv[2]
model = json.loads((folder / "model.json").read_text())
random = np.random.default_rng(0)


def run(name, **values):
    """Run a program; inputs that are not passed are drawn from N(0,1), for a batch of 8."""
    program = model["programs"][name]
    for key, shape in program["inputs"].items():
        shape = [8 if size == "batch" else size for size in shape]
        values.setdefault(key, random.standard_normal(shape, dtype=np.float32))
    return InferenceSession(folder / program["file"]).run([program["output"]], values)[0]


classes = model["programs"]["mapping"]["inputs"].get("c", [0, 1])[1]
one_hot = {"c": np.eye(classes, dtype=np.float32)[np.arange(8) % classes]} if classes > 1 else {}
image = run("synthesis", ws=run("mapping", truncation_psi=np.array(0.7, dtype=np.float32), **one_hot))
mean, std = np.array([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])[..., None, None]
low, high = {"symmetric": (-1, 1), "unit": (0, 1), "imagenet": (-mean / std, (1 - mean) / std)}[model["value_range"]]
pixels = np.clip((image - low) / (high - low) * 255, 0, 255).round().astype(np.uint8)
Image.fromarray(np.concatenate(list(pixels.transpose(0, 2, 3, 1)), axis=1).squeeze()).save(picture)
