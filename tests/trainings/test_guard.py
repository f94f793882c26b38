"""The guard sees what the attack does to the network that is used, speaks when that is nothing, and changes nothing."""

import copy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from test_checkpoint import stopped
from torch import nn
from toys import fitting, same, tiny, toy, train

from artlib import costs, files, models, paths
from artlib.attacks.balls import Linf
from artlib.models import STATISTICS, normalised_by
from artlib.trainings import PROTOCOLS, TRAININGS, Art, Batch, InnerAttack, Natural, Pgd, Recipe, Trades, guard

ATTACKS = {name: kind for name, kind in TRAININGS.items() if issubclass(kind, InnerAttack)}


def probe(training, images, seed: int = 0):
    return guard.probe(training, images, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def worn(dropout: float = 0.3) -> nn.Module:
    """A network in double precision whose running statistics are of other images than the probe's, in train mode."""
    options = dict(size=8, dropout=dropout, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    net = models.build("wrn-10-1", 2, **options)
    with torch.random.fork_rng():
        torch.manual_seed(2)
        for _ in range(3):
            net.train()(torch.rand(16, 3, 8, 8, dtype=torch.float64))
    return net


# ------------------------------------------------------------------ the probe


@pytest.mark.parametrize(("n", "size"), [(4, 4), (16, 16), (2_000, 16), (10_000, 20), (50_000, 64), (100_000, 64)])
def test_one_image_in_500_but_16_to_64(n, size):
    batch = probe(Pgd(), toy(n, size=2))
    assert batch.x.shape == (size, 3, 2, 2) and batch.y.shape == (size,) and batch.x.dtype == torch.float64
    assert len(batch.x.flatten(1).unique(dim=0)) == size  # each once


def test_a_seed_gives_one_batch_and_one_start_in_the_ball():
    images = toy(60, size=8)
    one, two, other = probe(Pgd(), images), probe(Pgd(), images), probe(Pgd(), images, seed=1)
    assert all(torch.equal(getattr(one, k), getattr(two, k)) for k in ("x", "y", "start"))
    assert not torch.equal(one.x, other.x)
    known = {tuple(v.flatten().tolist()): y for v, y in zip(images.images.double() / 255, images.labels, strict=True)}
    assert all(known[tuple(v.flatten().tolist())] == y for v, y in zip(one.x, one.y, strict=True))
    distance = (one.start - one.x).abs().amax()
    assert 0.9 * Pgd.eps < distance <= Pgd.eps + 1e-12 and 0 <= one.start.min() and one.start.max() <= 1


def test_natural_training_has_nothing_to_look_at():
    assert probe(Natural(), toy()) is None
    _, record = train(tiny(Natural()), toy())
    assert not {"guard", "warning"} & set(record["history"][-1])


# ------------------------------------------------------------------ the look


def settings(name: str, protocol: str) -> InnerAttack:
    return ATTACKS[name].of("toy", protocol=protocol).eased(steps=2)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", ATTACKS)
def test_looking_changes_nothing(name, protocol):
    """Weights, statistics, modes, what needs a gradient, and torch's random numbers, although dropout draws."""
    net, training = worn(), settings(name, protocol)
    net[1].eval()
    next(net.parameters()).requires_grad_(False)
    state = {k: v.clone() for k, v in net.state_dict().items()}
    modes, needs = [m.training for m in net.modules()], [p.requires_grad for p in net.parameters()]
    batch = probe(training, toy(60, size=8))
    x, held, numbers = batch.x.clone(), batch.model, torch.get_rng_state()
    found = guard.look(training, net, batch)
    assert torch.equal(torch.get_rng_state(), numbers)
    assert all(torch.equal(v, state[k]) for k, v in net.state_dict().items())
    assert [m.training for m in net.modules()] == modes and [p.requires_grad for p in net.parameters()] == needs
    assert all(p.grad is None for p in net.parameters())
    assert torch.equal(batch.x, x) and batch.model is held
    assert list(found) == list(STATISTICS)
    for each in found.values():
        assert [len(v) for v in each.values()] == [4, 4] and list(each) == ["raised", "accuracy"]
        assert all(0 <= a <= 1 and v == v for v, a in zip(each["raised"], each["accuracy"], strict=True))


def objective(name: str, net: nn.Module, x, y, z):
    """What each attack raises, from its paper: cross-entropy, the divergence of the clean prediction, Eq. 5 of ART.

    Chen et al.'s two: the norm of the loss's integrated gradients from x, five points, and the loss beside it.
    """
    if name.startswith("ig-"):
        path = [x + k / 5 * (z - x) for k in range(1, 6)]
        losses = [F.cross_entropy(net(p), y, reduction="sum") for p in path]
        g = [torch.autograd.grad(v, p, create_graph=True)[0] for v, p in zip(losses, path, strict=True)]
        norm = ((z - x) * sum(g) / 5).abs().sum() / len(x)
        return norm if name == "ig-norm" else losses[-1] / len(x) + norm
    if name in ("pgd", "igr"):
        return F.cross_entropy(net(z), y)
    if name == "trades":
        p, q = net(x).log_softmax(1), net(z).log_softmax(1)
        return (p.exp() * (p - q)).sum(1).mean()
    rows, scores = torch.arange(len(y)), net(x).detach().clone()
    scores[rows, y] = -torch.inf
    other = scores.argmax(1)
    with models.smooth(net, 50.0):
        logits = net(z)
        both = [torch.autograd.grad(logits[rows, c].sum(), z, create_graph=True)[0].flatten(1) for c in (y, other)]
    near, far = (1 - F.cosine_similarity(g, z.flatten(1)) for g in both)
    if name == "art-variant":  # Eq. 4 with the cosine
        return near.mean()
    return (1 + (near - far).exp()).log().mean()


@pytest.mark.parametrize("statistics", STATISTICS)
@pytest.mark.parametrize("name", ATTACKS)
def test_the_numbers_are_those_of_a_transcription(name, statistics):
    """Sign steps on the objective by the attack's statistics, of the start; then objective and accuracy by each.

    Every time on the network as it was given: passes with batch statistics move the running ones.
    """
    training = ATTACKS[name](steps=2, statistics=statistics)
    net, batch = worn(dropout=0.0), probe(training, toy(60, size=8))

    def at(by: str, on, z):
        own = copy.deepcopy(net).train()
        with normalised_by(by, own, on):
            z = z.detach().requires_grad_()
            value = objective(name, own, batch.x, batch.y, z)
            (g,) = torch.autograd.grad(value, z)
            return value.item(), (own(z).argmax(1) == batch.y).double().mean().item(), g

    def ascend(by: str, steps: int):
        z = batch.start
        for _ in range(steps):
            z = Linf(training.eps).project(z + training.step_size * at(by, batch.start, z)[2].sign(), batch.x)
        return z

    points = [batch.start, ascend(statistics, 2), ascend("running", 2), ascend(statistics, 2 * guard.LONGER)]
    found = guard.look(training, net, batch)
    for by in STATISTICS:
        expected = [at(by, z, z)[:2] for z in points]
        assert found[by]["raised"] == pytest.approx([raised for raised, _ in expected], rel=1e-8), by
        assert found[by]["accuracy"] == [accuracy for _, accuracy in expected], by


@pytest.mark.parametrize("dataset", [10_000, 50_000])
@pytest.mark.parametrize("name", ATTACKS)
def test_a_look_takes_little_of_an_epoch(name, dataset):
    """Counted, not timed: at most 1.2 %, so that the 2 % of a long run are kept when its updates are compiled."""
    training = ATTACKS[name].of("cifar10")
    update = costs.update(Recipe(training=training, arch="wrn-10-1"), shape=(3, 32, 10))
    images = costs._noise(2, (3, 32, 10))

    def cost(n: int) -> int:
        batch = Batch(update.net, images.images[:n].float() / 255, images.labels[:n])
        return costs.flops(lambda: guard.look(training, update.net, batch))

    size = len(probe(training, toy(dataset, size=1)).x)
    assert size * (cost(2) - cost(1)) < 0.012 * dataset * costs.per_image(update)


# ------------------------------------------------------------------ the warning


def story(raised: dict, accuracy: dict) -> dict:
    """What `look` returns: by statistics, at the start, after the own attack, one with running ones, a longer one."""
    return {s: {"raised": raised[s], "accuracy": accuracy[s]} for s in STATISTICS}


def batch_statistics(start, own, running, clean, attacked, broken) -> dict:
    """A pair of rows of trials with batch statistics, seen in eval mode; the rest is not asked for."""
    numbers = dict.fromkeys(STATISTICS, [start, own, running, own])
    return story(numbers, dict.fromkeys(STATISTICS, [clean, attacked, broken, attacked]))


def running_statistics(own, accuracy, held, held_accuracy, start=0.70) -> dict:
    """A row of trials with running statistics: the attacked batch by those of the moment, and by those of its own."""
    raised = {"running": [start, own, own, own], "batch": [start, held, held, held], "held": [start, held, held, held]}
    a = {"running": [0.5, *[accuracy] * 3], "batch": [0.5, *[held_accuracy] * 3], "held": [0.5, *[held_accuracy] * 3]}
    return story(raised, a)


HARMLESS = {  # L_attr at the start and at x~, by running statistics; what the running attack does; accuracies
    "normalised anchor": batch_statistics(0.694, 0.698, 0.719, 0.52, 0.52, 0.09),
    "authors": batch_statistics(0.695, 0.700, 0.741, 0.55, 0.56, 0.28),
}
STEPS = {  # L_attr and accuracy by running statistics, the same measured afresh
    350: (0.724, 0.42, 0.731, 0.53),
    375: (0.756, 0.17, 0.774, 0.33),
    400: (0.513, 0.17, 0.788, 0.41),
    425: (0.377, 0.11, 0.786, 0.42),
    450: (0.389, 0.08, 0.849, 0.56),
}


@pytest.mark.parametrize("name", HARMLESS)
def test_it_speaks_of_an_attack_that_does_not_attack(name):
    told = guard.warning(Art(statistics="batch"), HARMLESS[name])
    assert told.startswith("the inner attack (batch statistics) hardly attacks the network that will be used")
    assert "\n" not in told


@pytest.mark.parametrize("step", STEPS)
def test_it_speaks_of_a_collapse_once_it_has_happened(step):
    told = guard.warning(Art(), running_statistics(*STEPS[step]))
    assert told.startswith("the attack and the loss see another network") == (step >= 400) and bool(told) == (
        step >= 400
    )


# Looks at sound trainings with held statistics, CIFAR-10, `cpu` preset: two epochs in which the rate is high and
# running averages lag (14 % where held ones classify 47 %), and all of PGD-10. By statistics: raised, accuracy.
SOUND = {
    "art 1": {
        "running": ([0.686, 0.694, 0.706, 0.700], [0.14, 0.12, 0.11, 0.12]),
        "batch": ([0.701, 0.712, 0.703, 0.720], [0.41, 0.33, 0.38, 0.25]),
        "held": ([0.695, 0.709, 0.696, 0.718], [0.41, 0.33, 0.38, 0.25]),
    },
    "art 2": {
        "running": ([0.695, 0.701, 0.718, 0.707], [0.14, 0.14, 0.11, 0.12]),
        "batch": ([0.701, 0.714, 0.704, 0.727], [0.47, 0.33, 0.41, 0.22]),
        "held": ([0.701, 0.716, 0.700, 0.731], [0.47, 0.33, 0.41, 0.22]),
    },
    "pgd 1": {
        "running": ([1.982, 2.157, 2.162, 2.158], [0.25, 0.19, 0.17, 0.19]),
        "batch": ([1.975, 2.153, 2.150, 2.154], [0.25, 0.20, 0.19, 0.20]),
        "held": ([1.975, 2.153, 2.150, 2.154], [0.25, 0.20, 0.19, 0.20]),
    },
    "pgd 2": {
        "running": ([1.854, 2.068, 2.073, 2.068], [0.30, 0.19, 0.19, 0.19]),
        "batch": ([1.869, 2.087, 2.088, 2.087], [0.28, 0.19, 0.19, 0.19]),
        "held": ([1.869, 2.087, 2.088, 2.087], [0.28, 0.19, 0.19, 0.19]),
    },
    "pgd 3": {
        "running": ([1.808, 2.050, 2.054, 2.051], [0.34, 0.19, 0.20, 0.19]),
        "batch": ([1.825, 2.065, 2.068, 2.066], [0.27, 0.19, 0.19, 0.20]),
        "held": ([1.825, 2.065, 2.068, 2.066], [0.27, 0.19, 0.19, 0.20]),
    },
}


@pytest.mark.parametrize("name", SOUND)
def test_it_is_silent_in_a_sound_training(name):
    seen = SOUND[name]
    found = story({s: raised for s, (raised, _) in seen.items()}, {s: accuracy for s, (_, accuracy) in seen.items()})
    assert guard.warning(ATTACKS[name.split()[0]](statistics="held"), found) == ""


def test_lagging_averages_and_a_small_gain_are_no_reason_to_speak():
    """The second of these, were the gain with running statistics twice as large; once they have settled, it speaks."""
    found = story(*({s: list(SOUND["art 2"][s][i]) for s in STATISTICS} for i in (0, 1)))
    found["running"]["raised"][2] = 0.740
    assert guard.warning(Art(statistics="held"), found) == ""
    found["held"]["accuracy"][0] = 0.2
    assert guard.warning(Art(statistics="held"), found)


def test_running_averages_that_lag_are_above_not_below():
    """PGD while the rate is high: its cross-entropy is larger with averages of earlier weights."""
    assert guard.warning(Pgd(), running_statistics(2.9, 0.12, 1.6, 0.35, start=2.4)) == ""


@pytest.mark.parametrize("kind", [Pgd, Trades])
def test_it_speaks_of_other_trainings_too(kind):
    masked = batch_statistics(1.2, 1.21, 1.9, 0.5, 0.5, 0.2)
    sound = batch_statistics(1.2, 1.8, 1.9, 0.5, 0.25, 0.2)
    assert guard.warning(kind(statistics="batch"), masked) and not guard.warning(kind(statistics="held"), sound)


def test_nothing_is_said_of_a_network_that_no_attack_moves():
    """An untrained one: all is as at the start."""
    still = batch_statistics(0.693, 0.693, 0.693, 0.1, 0.1, 0.1)
    assert all(guard.warning(kind(statistics=s), still) == "" for kind in ATTACKS.values() for s in STATISTICS)


def recorded() -> dict[str, tuple[InnerAttack, list[dict]]]:
    """The attack and the looks of every recorded training of ART and PGD, by run and row."""
    found = {}
    for path in sorted(paths.REFERENCE.glob("*.json")):
        about = files.read_json(path)
        trainings = about.get("trainings") if isinstance(about, dict) else None
        for row, t in (trainings if isinstance(trainings, dict) else {}).items():
            looks = [entry["guard"] for entry in t.get("history", ()) if "guard" in entry]
            training = t["recipe"]["training"] if looks else {}
            if kind := {"Art": Art, "Pgd": Pgd}.get(training.get("kind")):
                found[f"{path.stem}: {row}"] = kind(statistics=training["statistics"]), looks
    return found


def test_of_all_recorded_trainings_it_speaks_in_those_that_fail_and_in_no_other():
    """ART with batch statistics, whose attack is harmless, and the collapses at running ones."""
    every = recorded()
    spoken = {name: [guard.warning(attack, look) for look in looks] for name, (attack, looks) in every.items()}
    harmless = {name for name, told in spoken.items() if any("hardly attacks" in t for t in told)}
    broken = {name for name, told in spoken.items() if any("another network" in t for t in told)}
    attacks = {name: attack for name, (attack, _) in every.items()}
    assert harmless == {n for n, a in attacks.items() if isinstance(a, Art) and a.statistics == "batch"}
    assert {n.split(": ")[1] for n in harmless} >= {"art batch pixels 1.5", "art authors"}
    collapsed = ("art running normalized 1.5", "art running normalized 5", "art running pixels 5")
    assert {n.split(": ")[1] for n in broken} == set(collapsed)
    assert sum(a.statistics == "held" for a in attacks.values()) > 30


# ------------------------------------------------------------------ in a training


def test_it_waits_until_the_averages_say_something(monkeypatch):
    """After n updates a share 0.9^n of a running average is what it was made with."""
    assert 0.9**fitting.SETTLED < 0.01
    monkeypatch.setattr(fitting, "SETTLED", 5)
    monkeypatch.setattr(guard, "warning", lambda training, found: "told")
    _, record = train(tiny(Pgd(steps=1), epochs=3), toy())  # 3 updates each
    assert [entry["warning"] for entry in record["history"]] == ["", "told", "told"]
    assert ["guard" in entry for entry in record["history"]] == [False, True, True]


@pytest.mark.parametrize("name", ATTACKS)
def test_the_weights_do_not_depend_on_it(name, monkeypatch):
    monkeypatch.setattr(fitting, "SETTLED", 0)
    recipe = tiny(replace(settings(name, "authors"), statistics="batch"), dropout=0.2)
    watched, record = train(recipe, toy())
    monkeypatch.setattr(guard, "probe", lambda *_, **options: None)
    alone, other = train(recipe, toy())
    assert same(watched, alone)
    assert other["history"] == [
        {k: v for k, v in e.items() if k not in ("guard", "warning")} for e in record["history"]
    ]
    assert "guard" in record["history"][0]


@pytest.mark.parametrize("statistics", ["batch", "held"])
def test_a_resumed_training_has_the_same_history_in_the_same_order(statistics, tmp_path, monkeypatch):
    """Stopped in the middle of its second epoch."""
    monkeypatch.setattr(fitting, "SETTLED", 0)
    recipe = tiny(Art(steps=1, statistics=statistics), epochs=3, dropout=0.2)
    stopped(recipe, toy(), tmp_path / "a.checkpoint")
    _, resumed = train(recipe, toy(), checkpoint=tmp_path / "a.checkpoint")
    _, whole = train(recipe, toy())
    assert resumed["history"] == whole["history"] and "guard" in whole["history"][0]
    assert [list(e) for e in resumed["history"]] == [list(e) for e in whole["history"]]
