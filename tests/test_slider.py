"""A slider's frames are the panels that were given, in order, and it stands at the one that was asked for."""

import base64
import html
import io
import json
import re
import time

import matplotlib
import numpy as np
import pytest
import torch
from PIL import Image

from artlib import plots
from artlib.attacks import KEPT, Manipulated
from workflow import step


def strips(markup: str) -> list[np.ndarray]:
    found = re.findall(r"url\(data:image/png;base64,([^)]+)\)", markup)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(each)))) for each in found]


def words(markup: str) -> list[list[str]]:
    return [json.loads(html.unescape(each)) for each in re.findall(r'data-words="([^"]+)"', markup)]


def made(generator, **changes) -> plots.Slider:
    images = torch.rand(3, 3, 5, 5, generator=generator)
    maps = torch.rand(3, 5, 5, generator=generator)
    settings = dict(steps=["a", "b", "c"], columns=["image", "map"], captions={"art": ["x", "<y>", "z"]}, start=1)
    return plots.slider({"art": [images, maps]}, **settings | changes)


def test_the_frames_stand_side_by_side(generator):
    image, heat = strips(made(generator).markup)
    again = torch.Generator().manual_seed(generator.initial_seed())
    images, maps = torch.rand(3, 3, 5, 5, generator=again), torch.rand(3, 5, 5, generator=again)
    assert image.shape == heat.shape == (5, 15, 3)
    for i in range(3):
        expected = np.round(255 * images[i].double().numpy()).transpose(1, 2, 0)
        assert (image[:, 5 * i : 5 * i + 5] == expected).all()
        top = np.quantile(maps[i].double().numpy(), 0.99)
        colours = matplotlib.colormaps["inferno"](maps[i].double().numpy() / top)[..., :3]
        assert np.abs(heat[:, 5 * i : 5 * i + 5] - 255 * colours).max() <= 0.5 + 1e-9


def test_it_starts_where_it_is_told_and_knows_every_word(generator):
    shown = made(generator, size=40)
    assert 'value="1"' in shown.markup and shown.markup.count("-40px 0 / 120px 40px") == 2
    assert words(shown.markup) == [["a", "b", "c"], ["x", "<y>", "z"]]
    assert ">b</span>" in shown.markup and ">&lt;y&gt;</small>" in shown.markup


def test_a_panel_needs_a_frame_a_step(generator):
    with pytest.raises(ValueError, match="art needs 2 panels and a caption, each with 2 frames"):
        made(generator, steps=["a", "b"])
    with pytest.raises(ValueError, match="a frame is an image"):
        plots.slider({"art": [[torch.zeros(4)]]}, steps=["a"], columns=["x"], captions={"art": ["x"]})


def test_it_is_kept_as_a_page(generator, tmp_path):
    shown = made(generator, title="an <image>")
    assert plots.Slider.load(shown.save(tmp_path / "page.html")) == shown


def attacked(generator, **sizes) -> dict:
    before = torch.rand(1, 6, 6, generator=generator, dtype=torch.float64)
    one = torch.ones(1, dtype=torch.float64)
    found = {}
    for eps in (0, 8):
        after = before if eps == 0 else before.flip(2)
        x = torch.full((1, 3, 6, 6), 0.5) + eps / 255
        found[eps] = Manipulated(x, before, after, one * (1 if eps == 0 else 0.25), one.long(), one.long() * KEPT)
    return found


def test_an_attack_by_its_size(generator):
    shown = plots.attack_slider(torch.full((3, 6, 6), 0.5), {"art": attacked(generator)}, k=5, start=8)
    image, change, _, top = strips(shown.markup)
    assert (image[:, :6] == 128).all() and np.isin(image[:, 6:], (135, 136)).all()
    assert (change[:, :6] == 128).all() and np.isin(change[:, 6:], (207, 208)).all()  # 127.5 + 80
    white = (top == 255).all(2)
    assert white[:, :6].sum() == 5 and (top > 0).any(2)[:, 6:].sum() == 10 - white[:, 6:].sum()
    share = white[:, 6:].sum() / 5
    assert words(shown.markup) == [["ε = 0/255", "ε = 8/255"], ["IN 100%, K 1.00", f"IN {share:.0%}, K 0.25"]]


@pytest.mark.slow
@pytest.mark.skipif(step.chromium() is None, reason="needs Chromium")
def test_a_browser_moves_every_panel_and_word(generator, tmp_path):
    shown = made(generator, size=40)
    with step.browser() as page:
        page.ask("Page.navigate", url=shown.save(tmp_path / "page.html").as_uri())
        page.wait("!!document.querySelector('input')", seconds=60)
        time.sleep(0.5)
        page.js("(e => {e.value = 2; e.dispatchEvent(new Event('input'))})(document.querySelector('input'))")
        places = page.js("[...document.querySelectorAll('[data-strip]')].map(e => e.style.backgroundPositionX)")
        assert places == ["-80px", "-80px"]
        assert page.js("[...document.querySelectorAll('[data-words]')].map(e => e.textContent)") == ["c", "z"]
