"""artlib.compiled: the same numbers as the eager code, never from another network's graph, and a way out without it."""

import copy
import weakref
from functools import partial

import pytest
import torch
from torch import nn

from artlib import compiled, models
from artlib.attacks import Linf, ifia
from artlib.attributions import integrated_gradients
from artlib.trainings import Art, Batch, Pgd

F64 = torch.float64
x = torch.rand(6, 3, 8, 8, dtype=F64, generator=torch.Generator().manual_seed(1))
y = torch.tensor([2, 0, 3, 1, 1, 0])
EPS = 0.03


def network(dtype=F64, dropout=0.0):
    noise = torch.Generator().manual_seed(0)
    layers = [models.Conv2d(3, 4, 3, padding=1, bias=False), models.BatchNorm2d(4), nn.ReLU(), nn.Dropout(dropout)]
    body = nn.Sequential(*layers, models.layers.MeanPool(), nn.Linear(4, 4)).double()
    net = models.wrap(body, (0.5,) * 3, (0.25,) * 3)
    for p in net.parameters():
        p.data = torch.randn(p.shape, generator=noise, dtype=F64)
    return net.to(dtype)


@pytest.fixture(autouse=True)
def nothing_given_up(monkeypatch):
    monkeypatch.setattr(compiled, "_broken", set())
    monkeypatch.setattr(compiled, "_said", set())


TRAININGS = {
    "pgd": Pgd(eps=EPS, steps=2, step_size=0.01, statistics="batch"),
    "art": Art(eps=EPS, steps=2),
    "art held": Art(eps=EPS, steps=2, statistics="held"),
    "art held, channel means": Art(eps=EPS, steps=2, statistics="held", channels="mean"),
    "art authors": Art(**Art.protocols["authors"] | dict(eps=EPS, steps=2, attack_topk=None)),
}


def step(net, images, labels, *, training, compile):
    net.train().zero_grad()
    start = training.start(images, generator=torch.Generator().manual_seed(3))
    losses = training.losses(Batch(net, images, labels, start=start, compile=compile))
    (2 * losses.total).backward()
    outputs = [v.detach() for v in (losses.total, losses.logits, *losses.parts.values())]
    return [v.clone() for v in [*outputs, *(p.grad for p in net.parameters()), *net.buffers()]]


def same(found, expected, tolerance):
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("training", TRAININGS.values(), ids=TRAININGS)
def test_a_step_is_the_eager_one_after_an_update_and_in_other_modes_too(training, capsys):
    """Twice: the second step has other weights, statistics and images, and comes from the graphs of the first."""
    fast, slow = network(), network()
    for images, labels in ((x, y), (x.flip(0), y.flip(0))):
        same(
            step(fast, images, labels, training=training, compile=True),
            step(slow, images, labels, training=training, compile=False),
            1e-10,
        )
        for net in (fast, slow):
            with torch.no_grad():
                for p in net.parameters():
                    p -= 0.1 * p.grad
        assert len(compiled._graphs[fast]) == 2
    assert not compiled._broken and capsys.readouterr().out == ""


def test_no_graph_of_another_network_sharpness_or_precision(operation_by_operation):
    net, images = network(torch.float32).eval(), x.float()

    def both(**changes):
        art = Art(eps=EPS, steps=1, **changes)
        found, expected = (art.attacked(Batch(net, images, y, compile=c)) for c in (True, False))
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
        return expected

    first = both()
    assert not torch.equal(first, both(beta=2.0))
    net[3] = nn.LeakyReLU(0.5)
    assert not torch.equal(first, both())
    with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
        both()
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


@pytest.fixture
def operation_by_operation(monkeypatch):
    """The recorded graph without a compiler: it goes stale just the same, in no time."""
    monkeypatch.setattr(torch, "compile", lambda graph, **_: graph)


class Scaled(nn.Module):
    """Attributes that no `extra_repr` shows."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 4).double()
        self.scale, self.options, self.f = 1.0, {"shift": [0.0]}, lambda v: v
        self.tuned = Tuned(1.0)

    def forward(self, x):
        return self.tuned(self.f(self.scale * self.linear(x.mean((2,))[..., :4].sum(1)) + self.options["shift"][0]))


class Tuned:
    def __init__(self, by):
        self.by = by

    def __call__(self, v):
        return self.by * v


@pytest.mark.parametrize(
    "change",
    [
        lambda net: setattr(net, "scale", 3.0),
        lambda net: setattr(net.tuned, "by", 3.0),
        lambda net: net.options.update(shift=[3.0]),
        lambda net: net.options["shift"].append(net.options["shift"].pop() + 3.0),
        lambda net: setattr(net, "f", lambda v: 3.0 * v),
        lambda net: setattr(net, "f", partial(torch.mul, other=3.0)),
        lambda net: setattr(net, "f", Tuned(3.0).__call__),
        lambda net: net.linear.__dict__.update(forward=lambda v: v.sin()),
    ],
)
def test_no_stale_graph_after_an_attribute_changed(change, operation_by_operation):
    net = Scaled().eval()
    first = compiled.call(double, net, x, compile=True)
    same([first], [double(net, x)], 1e-12)
    change(net)
    assert not torch.equal(double(net, x), first)
    same([compiled.call(double, net, x, compile=True)], [double(net, x)], 1e-12)
    assert len(compiled._graphs[net]) == 2 and not compiled._broken


def tuned(model, x, *, by):
    return by(model(x).detach())


def test_no_stale_graph_after_a_field_of_a_callable_changed(operation_by_operation):
    net, by, factor = network().eval(), Tuned(1.0), 1.0

    def closure(v):
        return factor * v

    for f in (by, partial(Tuned.__call__, by), closure):
        by.by = factor = 1.0
        first = compiled.call(tuned, net, x, by=f, compile=True)
        by.by = factor = 3.0
        same([compiled.call(tuned, net, x, by=f, compile=True)], [3 * first], 1e-12)
    assert not compiled._broken and len(compiled._graphs[net]) == 6


@pytest.mark.parametrize("hidden", [torch.ones(1), [nn.Linear(1, 1)], object(), torch.Generator()], ids=str)
def test_what_cannot_be_compared_is_not_compiled(hidden, operation_by_operation, capsys):
    net = network().eval()
    net[3].hidden = hidden
    for _ in range(2):
        same([compiled.call(double, net, x, compile=True)], [double(net, x)], 0)
    assert net not in compiled._graphs and capsys.readouterr().out.count("not compiled") == 1
    del net[3].hidden
    compiled.call(double, net, x, compile=True)
    assert len(compiled._graphs[net]) == 1


def test_a_hook_is_called_every_time(operation_by_operation):
    net, seen = network().eval(), []
    net[3].register_forward_hook(lambda *_: seen.append(1))
    for _ in range(2):
        compiled.call(double, net, x, compile=True)
    assert len(seen) == 2


def fragile(model, x, *, beta):
    if beta <= 0:
        raise ValueError(f"beta is {beta}")
    return beta * model(x).detach()


def test_an_error_disables_nothing_and_a_function_that_cannot_be_traced_only_with_its_model(operation_by_operation):
    net, other = network().eval(), network().eval()
    with pytest.raises(ValueError, match="beta is 0"):
        compiled.call(fragile, net, x, beta=0, compile=True)
    compiled.call(fragile, net, x, beta=2, compile=True)
    assert not compiled._broken and len(compiled._graphs[net]) == 1
    net[3].forward = lambda v: v if v.mean() > 0 else -v  # a decision by value
    compiled.call(fragile, net, x, beta=2, compile=True)
    compiled.call(fragile, other, x, beta=2, compile=True)
    assert compiled._broken == {(weakref.ref(net), fragile)} and len(compiled._graphs[other]) == 1


def test_an_error_of_the_users_own_is_not_swallowed():
    class Functional(nn.Sequential):
        def forward(self, z):
            return torch.relu(super().forward(z))

    with pytest.raises(ValueError, match="Functional calls relu"):
        Art(eps=EPS, steps=1).attacked(Batch(Functional(*network()), x, y, compile=True))
    assert not compiled._broken


def test_compiling_pays_for_much_work_alone_and_counting_leaves_the_model_as_it_was():
    net = network().train()
    before = copy.deepcopy(net.state_dict())
    flops = 2 * (8 * 8 * 4 * 27 + 4 * 4)  # a convolution and a linear layer, two operations a product
    worthwhile = compiled.WORTHWHILE["cpu"] / flops
    assert compiled.pays(net, x, passes=1.01 * worthwhile) and not compiled.pays(net, x, passes=0.99 * worthwhile)
    assert net.training and all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
