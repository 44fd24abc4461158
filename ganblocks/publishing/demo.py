"""A page in the browser that makes a generator's images: samples, style mixing and interpolation.

gradio serves it on this machine, never through a public address.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from functools import wraps
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from assemblies import Generator
from assemblies.condition import condition_input
from blocks.common.weight_cache import frozen_weights
from ganblocks.errors import UsageError, UserError
from ganblocks.options import accepts
from ganblocks.sampling.conditions import resolve_conditions
from ganblocks.sampling.generate import Truncation, generate, styles, synthesize
from ganblocks.sampling.grids import make_grid, scale_for, to_picture
from ganblocks.sampling.interpolation import interpolate_styles
from ganblocks.sampling.load import load_optimized
from ganblocks.sampling.options import SamplingOptions
from ganblocks.sampling.pictures import made_by, save_animation
from ganblocks.sampling.style_mixing import mix, style_groups

HOST = "127.0.0.1"
MOST_IMAGES, MOST_STEPS = 16, 48
PROMPT = "a photo"
FPS = 24


class DemoImages:
    """The images of the page.

    Args:
        generator: In eval mode.
        folder: Where animations are written.
    """

    def __init__(self, generator: Generator, folder: Path) -> None:
        self.generator, self.folder = generator, folder
        self.groups = style_groups(generator)
        self.count = 0

    @frozen_weights()
    def sample(self, seed: int, count: int, psi: float, condition: int | str | None = None) -> Image.Image:
        """The images of `count` seeds from `seed` on, as a grid."""
        images = generate(self.generator, range(seed, seed + count), c=self.vector(condition), truncation_psi=psi)
        return make_grid(images, value_range=self.generator.value_range)

    @frozen_weights()
    def mix(
        self, source: int, onto: int, groups: Sequence[str], psi: float, condition: int | str | None = None
    ) -> Image.Image:
        """The images of two seeds, and the second with some styles of the first."""
        ws = styles(self.generator, [source, onto], c=self.vector(condition), truncation=Truncation(psi))
        mixed = ws[1]
        for name in groups:
            mixed = mix(mixed, ws[0], self.groups[name])
        images = torch.cat(list(synthesize(self.generator, torch.stack([*ws, mixed]))))
        labels = [f"seed {source}", f"seed {onto}", "mixed"]
        return make_grid(images, columns=3, labels=labels, value_range=self.generator.value_range)

    @frozen_weights()
    def interpolate(self, first: int, second: int, steps: int, psi: float, condition: int | str | None = None) -> str:
        """The file of an animation from one seed to another and back."""
        path = [first, second, first]
        c = self.vector(condition)
        ws = interpolate_styles(self.generator, path, steps, c=c, truncation=Truncation(psi))[:-1]
        images = (image for batch in synthesize(self.generator, ws) for image in batch)
        scale = scale_for(max(self.generator.picture_shape[1:]))
        frames = [to_picture(image, self.generator.value_range, scale) for image in images]
        self.count += 1
        file = self.folder / f"{self.count}.gif"
        save_animation(frames, file, FPS, made_by(self.generator))
        return str(file)

    def vector(self, condition: int | str | None) -> Float[Tensor, " d"] | None:
        """The condition vector of a class or a prompt."""
        takes = condition_input(self.generator.spec)
        classes = [int(condition or 0)] if takes == "classes" else []
        captions = [str(condition or PROMPT)] if takes == "captions" else []
        return resolve_conditions(self.generator, classes, captions).vectors[0]


def require_gradio() -> None:
    """Refuse to go on without gradio.

    Raises:
        UsageError: It is not installed.
    """
    if find_spec("gradio") is None:
        raise UsageError("the demo needs the package gradio: pip install 'ganblocks[demo]'")


@accepts(SamplingOptions)
def serve(model: str | Path, *, host: str = HOST, port: int | None = None, options: SamplingOptions) -> None:
    """Serve the page of a model until Ctrl-C.

    Args:
        model: A run folder or a model file.
        host: Address to listen on; the default is reachable from this machine alone.
        port: Its port; None for the first free one from 7860 on.

    Raises:
        CheckpointError: There is no model.
        UsageError: gradio is not installed, or the port is taken.
    """
    require_gradio()
    generator = load_optimized(model, options)
    with tempfile.TemporaryDirectory(prefix="ganblocks-demo-") as folder:
        launch(page(DemoImages(generator, Path(folder)), Path(model).name), host, port, block=True)


def launch(demo: Any, host: str = HOST, port: int | None = None, *, block: bool = False) -> str:
    """Start the server of a page; returns its address.

    Raises:
        UsageError: The port is taken.
    """
    import gradio as gr

    fonts = {"font": ["system-ui", "sans-serif"], "font_mono": ["ui-monospace", "monospace"]}  # no download
    try:
        _, address, _ = demo.launch(
            share=False,  # None would follow an environment variable
            server_name=host,
            server_port=port,
            prevent_thread_lock=not block,
            theme=gr.themes.Default(**fonts),
            footer_links=[],
            ssr_mode=False,
        )
    except OSError as error:
        raise UsageError(f"--port {port}: {str(error).splitlines()[0]}; choose another one") from None
    return str(address)


def page(images: DemoImages, title: str) -> Any:
    """The page as an application of gradio."""
    import gradio as gr

    def answering(function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def answer(*values: Any) -> Any:
            if None in values:
                raise gr.Error("a field is empty; fill it in")
            try:
                return function(*values)
            except (UserError, ValueError) as error:
                raise gr.Error(str(error)) from None

        return answer

    def seed(label: str, value: int) -> Any:
        return gr.Number(value, label=label, precision=0, minimum=0, maximum=2**31 - 1, min_width=120)

    def picture(name: str, **options: Any) -> Any:
        buttons = ["download", "fullscreen"]  # without the one that uploads the picture
        return gr.Image(label=name, show_label=False, buttons=buttons, interactive=False, elem_id=name, **options)

    generator = images.generator
    takes = condition_input(generator.spec)
    _, height, width = generator.picture_shape
    with gr.Blocks(title=f"{title}: ganblocks", analytics_enabled=False, delete_cache=(3600, 3600)) as demo:
        gr.Markdown(f"## {title}\nImages of {width} x {height} px")
        with gr.Row():
            psi = gr.Slider(0, 1.5, 1, step=0.05, label="Truncation psi", elem_id="psi")
            if takes == "classes":
                names = enumerate(generator.class_names or range(generator.cond_dim))
                choices = [(str(name), str(number)) for number, name in names]
                condition = [gr.Dropdown(choices, value="0", label="Class", elem_id="class")]
            elif takes == "captions":
                condition = [gr.Textbox(PROMPT, label="Prompt", elem_id="prompt")]
            else:
                condition = []
        with gr.Tab("Samples"):
            with gr.Row():
                first = seed("Seed", 0)
                count = gr.Slider(1, MOST_IMAGES, 4, step=1, label="Images")
            make = gr.Button("Make images", variant="primary", elem_id="sample")
            samples = picture("samples", type="pil", format="png")
            gr.on([make.click, demo.load], answering(images.sample), [first, count, psi, *condition], samples)
        with gr.Tab("Style mixing"):
            with gr.Row():
                source, onto = seed("Styles of seed", 1), seed("Onto seed", 2)
                groups = gr.CheckboxGroup(
                    list(images.groups), value=list(images.groups)[:1], label="Styles that are taken"
                )
            button = gr.Button("Mix", variant="primary", elem_id="mix")
            mixed = picture("mixed", type="pil", format="png")
            button.click(answering(images.mix), [source, onto, groups, psi, *condition], mixed)
        with gr.Tab("Interpolation"):
            with gr.Row():
                start, end = seed("From seed", 1), seed("To seed", 2)
                steps = gr.Slider(2, MOST_STEPS, 24, step=1, label="Images between")
            button = gr.Button("Interpolate", variant="primary", elem_id="interpolate")
            film = picture("film", type="filepath", format="gif")
            button.click(answering(images.interpolate), [start, end, steps, psi, *condition], film)
    return demo
