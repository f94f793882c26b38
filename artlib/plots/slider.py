"""A slider over frames that needs no kernel: they stand in the page, and a few words of JavaScript move them."""

import base64
import html
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from artlib import files, metrics
from artlib.plots.maps import perturbation
from artlib.tables import Shown
from artlib.trainings import title as label

KEPT, GONE, NEW = (1.0, 1.0, 1.0), (0.34, 0.71, 0.91), (0.90, 0.62, 0.0)  # white; blue and orange of the palette
_MOVE = (
    "const f = this.closest('figure'), i = +this.value;"
    "f.querySelectorAll('[data-strip]').forEach(e => e.style.backgroundPositionX = -i * e.clientWidth + 'px');"
    "f.querySelectorAll('[data-words]').forEach(e => e.textContent = JSON.parse(e.dataset.words)[i])"
)


class Slider(Shown):
    """Without JavaScript it stands still at the frame it starts with."""

    @staticmethod
    def load(path: Path) -> "Slider":
        """What `save` wrote."""
        _, title, markup = path.read_text().split("\n", 2)
        return Slider(html.unescape(title.removeprefix("<title>").removesuffix("</title>")), markup)

    def save(self, path: Path) -> Path:
        """Write it as a page of its own."""
        head = f'<!doctype html><meta charset="utf-8">\n<title>{html.escape(self.text)}</title>\n'
        files.write_text(path, head + self.markup)
        return path


def slider(
    rows: Mapping[str, Sequence[Sequence[Any]]],
    *,
    steps: Sequence[str],
    columns: Sequence[str],
    captions: Mapping[str, Sequence[str]],
    start: int = 0,
    title: str = "",
    size: int = 140,
) -> Slider:
    """Rows of panels that change together with one slider.

    rows[label][column]: one frame a step, images (3, H, W) in [0, 1] or heat maps (H, W) >= 0, which are drawn from 0
    to their own 99th percentile. steps: what the slider says at each; captions[label]: likewise, under the row's name.
    start: the frame shown first; size: pixels a panel. Raises ValueError where a panel has not one frame a step.
    """
    for name, panels in rows.items():
        if len(panels) != len(columns) or any(len(p) != len(steps) for p in (*panels, captions[name])):
            raise ValueError(f"{name} needs {len(columns)} panels and a caption, each with {len(steps)} frames")
    cell = f'style="width:{size}px;padding:2px 4px;text-align:center;font-weight:normal"'
    head = "".join(f"<th {cell}>{html.escape(c)}</th>" for c in columns)
    side = 'style="text-align:right;padding:4px;min-width:9em"'
    lines = "".join(
        f"<tr><th {side}>{html.escape(label(name))}<br><small {_words(captions[name])}>"
        f"{html.escape(captions[name][start])}</small></th>"
        + "".join(f"<td {cell}>{_strip(p, start, size, c)}</td>" for p, c in zip(panels, columns, strict=True))
        + "</tr>"
        for name, panels in rows.items()
    )
    knob = f'<input type="range" min="0" max="{len(steps) - 1}" value="{start}" aria-label="{html.escape(title)}"'
    markup = (
        f'<figure style="margin:8px 0;font:13px sans-serif"><figcaption>{html.escape(title)}</figcaption>'
        f'<p>{knob} style="width:24em;vertical-align:middle" oninput="{html.escape(_MOVE)}"> '
        f"<span {_words(steps)}>{html.escape(steps[start])}</span></p>"
        f'<table style="border-collapse:collapse"><tr><th></th>{head}</tr>{lines}</table></figure>'
    )
    return Slider(f"{title}: a slider from {steps[0]} to {steps[-1]}", markup)


def attack_slider(
    x: torch.Tensor, attacked: Mapping[str, Mapping[float, Any]], *, k: int, start: float, title: str = ""
) -> Slider:
    """One image under growing attacks, a row a training: attacked image, change x 10, its map, its k largest pixels.

    x: (C, H, W) in [0, 1]; attacked[training][eps]: a `Manipulated` of that one image, eps in 255ths and the same for
    all; start: the eps shown first. Of the k largest pixels white ones are among them before and after the attack, blue
    ones before, orange ones after alone.
    """
    rows, captions = {}, {}
    for name, by_eps in attacked.items():
        found = list(by_eps.values())
        rows[name] = [
            [f.x_adv[0] for f in found],
            [perturbation(x, f.x_adv[0]) for f in found],
            [f.after[0] for f in found],
            [_shared(metrics.topk_mask(f.before, k)[0], metrics.topk_mask(f.after, k)[0]) for f in found],
        ]
        share = [metrics.topk_intersection(f.before, f.after, k).item() for f in found]
        captions[name] = [f"IN {s:.0%}, K {f.kendall.item():.2f}" for s, f in zip(share, found, strict=True)]
    sizes = list(next(iter(attacked.values())))
    columns = ["attacked image", "change × 10", "map", f"top {k}: white kept, blue gone, orange new"]
    words = dict(steps=[f"ε = {e:g}/255" for e in sizes], start=sizes.index(start), title=title)
    return slider(rows, columns=columns, captions=captions, **words)


def _shared(before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
    """Two masks (H, W) as an image (3, H, W), black outside both."""
    sides = zip((before & after, before & ~after, after & ~before), (KEPT, GONE, NEW), strict=True)
    return sum(mask * torch.tensor(colour)[:, None, None] for mask, colour in sides)


def _words(words: Sequence[str]) -> str:
    return f'data-words="{html.escape(json.dumps(list(words)))}"'


def _strip(frames: Sequence[Any], start: int, size: int, name: str) -> str:
    """The frames side by side in one PNG, of which one is seen."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(np.concatenate([_pixels(f) for f in frames], 1)).save(buffer, "PNG", optimize=True)
    data = base64.b64encode(buffer.getvalue()).decode()
    return (
        f'<div data-strip role="img" aria-label="{html.escape(name)}" style="width:{size}px;height:{size}px;'
        f"image-rendering:pixelated;background:url(data:image/png;base64,{data}) {-start * size}px 0 / "
        f'{len(frames) * size}px {size}px"></div>'
    )


def _pixels(frame: Any) -> np.ndarray:
    """uint8 (H, W, 3)."""
    import matplotlib

    values = torch.as_tensor(frame).detach().cpu().double().numpy()
    if values.ndim == 2:
        values = matplotlib.colormaps["inferno"](values / (np.quantile(values, 0.99) or 1.0))[..., :3]
    elif values.ndim == 3 and values.shape[0] in (1, 3):
        values = np.broadcast_to(values.transpose(1, 2, 0), (*values.shape[1:], 3))
    else:
        raise ValueError(f"a frame is an image (C, H, W), C = 1 or 3, or a heat map (H, W), not {values.shape}")
    return np.round(255 * np.clip(values, 0, 1)).astype(np.uint8)
