"""artlib.compiled: the same numbers as the eager code, never from another network's graph, and a way out without it."""

import copy
from functools import partial

import pytest
import torch
from torch import nn

from artlib import compiled, models
from artlib.attacks import Linf, ifia
from artlib.attributions import integrated_gradients
from artlib.objectives import ART_SETTINGS, art_attack, art_settings, art_step, natural_step, pgd_attack, runner_up

F64 = torch.float64
x = torch.rand(6, 3, 8, 8, dtype=F64, generator=torch.Generator().manual_seed(1))
y = torch.tensor([2, 0, 3, 1, 1, 0])
EPS = 0.03


def network(dtype=F64, dropout=0.0):
    noise = torch.Generator().manual_seed(0)
    layers = [models.Conv2d(3, 4, 3, padding=1, bias=False), models.BatchNorm2d(4), nn.ReLU(), nn.Dropout(dropout)]
    net = nn.Sequential(
        models.Normalize((0.5,) * 3, (0.25,) * 3), *layers, models.layers.MeanPool(), nn.Linear(4, 4)
    ).double()
    for p in net.parameters():
        p.data = torch.randn(p.shape, generator=noise, dtype=F64)
    return net.to(dtype)


@pytest.fixture(autouse=True)
def nothing_given_up(monkeypatch):
    monkeypatch.setattr(compiled, "_broken", set())
    yield


def step(net, images, labels, *, kind, compile):
    net.zero_grad()
    shared = dict(eps=EPS, start=Linf(EPS).random(images, generator=torch.Generator().manual_seed(3)), compile=compile)
    if kind == "pgd":
        x_adv = pgd_attack(net, images, labels, steps=2, step_size=0.01, train_mode=True, **shared)
        outputs = natural_step(net.train(), x_adv, labels, compile=compile)
    else:
        settings = art_settings(kind, attack_steps=2, attack_topk=None)
        outputs = art_step(net, images, labels, settings=settings, **shared)
    (2 * outputs[0]).backward()
    outputs = [v.detach() for v in outputs]
    return [v.clone() for v in [*outputs, *(p.grad for p in net.parameters()), *net.buffers()]]


def same(found, expected, tolerance):
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("kind", ["pgd", *ART_SETTINGS])
def test_a_step_is_the_eager_one_after_an_update_and_in_other_modes_too(kind, capsys):
    """Twice: the second step has other weights, statistics and images, and comes from the graphs of the first."""
    fast, slow = network(), network()
    for images, labels in ((x, y), (x.flip(0), y.flip(0))):
        same(
            step(fast, images, labels, kind=kind, compile=True),
            step(slow, images, labels, kind=kind, compile=False),
            1e-10,
        )
        for net in (fast, slow):
            with torch.no_grad():
                for p in net.parameters():
                    p -= 0.1 * p.grad
        assert len(compiled._graphs[fast]) == 2
    assert not compiled._broken and capsys.readouterr().out == ""


def test_no_graph_of_another_network_sharpness_or_precision(monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda graph, **_: graph)  # the recorded graph, operation by operation
    net, images = network(torch.float32).eval(), x.float()
    negative = runner_up(net(images), y)

    def both(**changes):
        options = dict(settings=art_settings("paper", **changes), eps=EPS, start=images, negative=negative)
        found, expected = (art_attack(net, images, y, compile=c, **options) for c in (True, False))
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
        return expected

    first = both(attack_steps=1)
    assert not torch.equal(first, both(attack_steps=1, beta=2.0))
    net[3] = nn.LeakyReLU(0.5)
    assert not torch.equal(first, both(attack_steps=1))
    with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
        both(attack_steps=1)
    assert len(compiled._graphs[net]) == 4 and not compiled._broken


def test_ifia_is_the_eager_one(capsys):
    net = network().eval()
    labels = net(x).argmax(1)
    explain = partial(integrated_gradients, steps=3)
    options = dict(k=10, ball=Linf(EPS), steps=2, step_size=0.01, attribution=explain, batch_size=4, beta=10.0)
    fast, slow = (ifia(net, x, labels, compile=c, **options) for c in (True, False))
    same([fast.x_adv, fast.after, fast.kendall], [slow.x_adv, slow.after, slow.kendall], 1e-10)
    assert fast.status.tolist() == slow.status.tolist() and not torch.equal(slow.x_adv, x)
    # A map and a gradient; the rest of two images is eager.
    assert len(compiled._graphs[net]) == 2 and capsys.readouterr().out == ""


def double(model, x):
    return 2 * model(x).detach()


def test_without_a_compiler_one_line_says_so_and_the_values_are_the_same(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))  # nothing compiled earlier
    net = network().eval()
    with torch._inductor.config.patch({"cpp.cxx": ("no-such-compiler",), "force_disable_caches": True}):
        found = [compiled.call(double, net, x, compile=True) for _ in range(2)]
    same(found, [double(net, x)] * 2, 0)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 and lines[0].startswith("not compiled, slower: ")


def by_value(model, x):
    return model(x).detach() if x.mean() > 0 else x


def test_what_cannot_be_traced_runs_as_it_is(capsys):
    net = network().eval()
    same([compiled.call(by_value, net, x, compile=True)], [net(x)], 0)
    assert capsys.readouterr().out.count("\n") == 1


def test_dropout_is_never_compiled():
    net = network(dropout=0.5).train()
    compiled.call(double, net, x, compile=True)
    assert net not in compiled._graphs


def test_an_error_of_the_users_own_is_not_swallowed():
    with pytest.raises(ValueError, match="beta is 0"):
        options = dict(settings=art_settings("paper", beta=0.0), eps=EPS, start=x, negative=y)
        art_attack(network(), x, y, compile=True, **options)


def test_compiling_pays_for_much_work_alone_and_counting_leaves_the_model_as_it_was():
    net = network().train()
    before = copy.deepcopy(net.state_dict())
    flops = 2 * (8 * 8 * 4 * 27 + 4 * 4)  # a convolution and a linear layer, two operations a product
    worthwhile = compiled.WORTHWHILE["cpu"] / flops
    assert compiled.pays(net, x, passes=1.01 * worthwhile) and not compiled.pays(net, x, passes=0.99 * worthwhile)
    assert net.training and all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
