"""Images and heat maps in a grid, with pixels outlined; one image under attack."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from artlib import metrics
from artlib.plots.style import style
from artlib.trainings import title as label

if TYPE_CHECKING:
    from matplotlib.figure import Figure

OUTLINE = "#00FFFF"  # in neither blossoms nor the colours of heat maps


@dataclass(frozen=True)
class Panel:
    """A panel of `heatmap_grid`: an image (C, H, W) or a heat map (H, W), and a bool mask (H, W) to be outlined."""

    values: Any
    outline: Any = None


def perturbation(x: torch.Tensor, x_adv: torch.Tensor, *, times: float = 10.0) -> torch.Tensor:
    """What an attack added to an image, as an image: grey where nothing, lighter where more, `times` as strong.

    x, x_adv: (C, H, W), float in [0, 1]. Returns 0.5 + times (x_adv - x), cut to [0, 1].

    >>> import torch
    >>> from artlib import plots
    >>> x = torch.full((3, 1, 1), 0.2)
    >>> plots.perturbation(x, x + 0.03).flatten().tolist()  # ten times as strong, around grey
    [0.800000011920929, 0.800000011920929, 0.800000011920929]
    """
    return (0.5 + times * (x_adv - x)).clamp(0, 1)


def heatmap_grid(
    rows: Mapping[str, Sequence[Any]],
    *,
    columns: Sequence[str] | Mapping[str, Sequence[str]] = (),
    captions: Mapping[str, Sequence[str]] | None = None,
    title: str = "",
    size: float = 1.2,
) -> "Figure":
    """Rows of images and heat maps, one label per row, headings over the panels, an optional caption under each.

    rows[label]: panels; (C, H, W) is an image, float in [0, 1] or uint8, C = 1 or 3; (H, W) is a heat map >= 0, drawn
    from 0 to its own 99th percentile, since a few pixels would else hide the rest. None leaves a panel empty. A `Panel`
    is one of these with pixels outlined, such as `metrics.topk_mask`. columns: headings of the first row, or of each
    row by its label. size: inches a panel.
    Raises ValueError for no rows, and for panels and outlines of another shape.
    """
    import matplotlib.pyplot as plt

    if not rows or not any(len(panels) for panels in rows.values()):
        raise ValueError("heatmap_grid needs at least one row with one panel")
    width = max(len(panels) for panels in rows.values())
    headings = columns if isinstance(columns, Mapping) else {next(iter(rows)): columns}
    height = (size + 0.2) * len(rows) + 0.15 * (len(headings) - 1) + 0.3 * bool(title)
    with plt.rc_context(style()):
        fig, axes = plt.subplots(len(rows), width, figsize=(size * width + 0.4, height), squeeze=False)
        plt.close(fig)
        for line, (name, panels) in zip(axes, rows.items(), strict=True):
            for j, ax in enumerate(line):
                ax.set(xticks=[], yticks=[])
                ax.spines[:].set_visible(False)
                if j < len(panels) and panels[j] is not None:
                    _panel(ax, panels[j])
                if captions and j < len(captions.get(name, ())):
                    ax.set_xlabel(captions[name][j], fontsize=7, labelpad=2)
            line[0].set_ylabel(name)
            for ax, heading in zip(line, headings.get(name, ()), strict=False):
                ax.set_title(heading)
        fig.suptitle(title, fontsize=10)
    return fig


def _panel(ax, panel: Any) -> None:
    panel, outline = (panel.values, panel.outline) if isinstance(panel, Panel) else (panel, None)
    panel = torch.as_tensor(panel).detach().cpu().numpy()
    if panel.ndim == 2:
        ax.imshow(panel, cmap="inferno", vmin=0, vmax=np.quantile(panel, 0.99) or 1.0, interpolation="nearest")
    elif panel.ndim == 3 and panel.shape[0] in (1, 3):
        top = 255 if panel.dtype == np.uint8 else 1  # named, else Matplotlib stretches each grey image to its own range
        pixels = np.clip(panel, 0, top).transpose(1, 2, 0).squeeze()  # (H, W, 3) or (H, W)
        ax.imshow(pixels, cmap="gray", vmin=0, vmax=top, interpolation="nearest")
    else:
        raise ValueError(f"a panel is an image (C, H, W), C = 1 or 3, or a heat map (H, W), not {tuple(panel.shape)}")
    if outline is not None:
        _outline(ax, torch.as_tensor(outline).detach().cpu().numpy(), panel.shape[-2:])


def _outline(ax, mask: np.ndarray, shape: tuple[int, ...]) -> None:
    """The edges between the pixels of the mask and the others; contour() would cut their corners."""
    from matplotlib.collections import LineCollection

    if mask.shape != tuple(shape) or mask.dtype != bool:
        raise ValueError(f"an outline is a bool mask of its panel's {tuple(shape)}, not {mask.dtype} {mask.shape}")
    inside = np.pad(mask, 1)
    edges = []
    for i, j in zip(*np.nonzero(inside[1:] != inside[:-1]), strict=True):  # between rows i - 1 and i, in column j - 1
        edges.append([(j - 1.5, i - 0.5), (j - 0.5, i - 0.5)])
    for i, j in zip(*np.nonzero(inside[:, 1:] != inside[:, :-1]), strict=True):
        edges.append([(j - 0.5, i - 1.5), (j - 0.5, i - 0.5)])
    for line, width in (("black", 1.3), (OUTLINE, 0.7)):  # seen on bright images and on dark maps
        ax.add_collection(LineCollection(edges, colors=line, linewidths=width, capstyle="projecting"))


def attack_grid(
    x: torch.Tensor,
    attacked: Mapping[str, Any],
    confidences: Mapping[str, tuple[float, float]],
    *,
    k: int,
    title: str = "",
    size: float = 1.7,
) -> "Figure":
    """One image under attack, a row a training: image, change x 10, attacked image, its map before and after.

    x: (C, H, W) in [0, 1]; attacked[training]: a `Manipulated` of that one image; confidences[training]: that of its
    class before and after. The k largest pixels of each map are outlined; IN and K stand under the last panel.
    """
    rows, captions = {}, {}
    for name, found in attacked.items():
        before, after = (Panel(m[0], metrics.topk_mask(m, k)[0]) for m in (found.before, found.after))
        heading = label(name)
        rows[heading] = [x, perturbation(x, found.x_adv[0]), found.x_adv[0], before, after]
        shared = metrics.topk_intersection(found.before, found.after, k).item()
        told = [f"confidence {c:.1%}" for c in confidences[name]]
        captions[heading] = [told[0], "", told[1], "", f"IN {shared:.0%}, K {found.kendall.item():.2f}"]
    columns = ["image", "change × 10", "attacked image", f"map, top {k}", f"map after, top {k}"]
    return heatmap_grid(rows, columns=columns, captions=captions, title=title, size=size)
