"""The comparisons that the paper makes: every pair of rows that one of its tables orders, and what its words add."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from artlib.paper.published import TABLES, read


@dataclass(frozen=True)
class Claim:
    """One comparison that the paper makes: on `dataset`, in `setting`, `better` scores higher than `worse` in `metric`.

    printed: the values of better and worse in percent; None where the paper does not print them for this data set.
    same: the claim is that both score the same, whichever is called better.
    spread: the claim is that better varies less over images, whatever the means.
    """

    id: str
    text: str
    source: str  # where the paper says or shows it
    object: str  # a name of TABLES
    dataset: str
    setting: str  # as in `published`, blank in most tables
    metric: str
    better: str
    worse: str
    printed: tuple[float, float] | None
    same: bool = False
    spread: bool = False

    @property
    def unprinted(self) -> "Claim":
        """The same without the printed values, which are of another data set or of another attack."""
        return replace(self, text=self.text.split(" (printed: ")[0], printed=None)


# What the paper says in words of ART: section, and by metric the rivals that it leads, None for all of them.
STATED: dict[str, tuple[str, dict[str, tuple[str, ...] | None]]] = {
    "table1": ("Section 4.1.3", {"IN": None, "K": None, "natural": ("pgd",), "adversarial": ("natural",)}),
    "table2": ("Section 4.2", {"gradient_gt_known": None, "gradient_top1_loc": None}),
    "table4": ("Section 5", {"IN": None, "K": None}),
    "table6": ("Appendix C", {"from_natural": ("pgd",)}),
}
_WORDS = {"natural": "natural accuracy", "adversarial": "PGD-40 accuracy", "pgd_20": "PGD-20 accuracy"}
_TITLES = {"cifar10": "CIFAR-10", "cub200": "CUB-200"}


def _claims_of(name: str) -> list[Claim]:
    """Every pair that a table orders in a column, favourable to ART or not, and what `STATED` adds to them."""
    claims, rows = [], read(name)
    for metric in dict.fromkeys(row["metric"] for row in rows):
        for a, b in combinations([row for row in rows if row["metric"] == metric], 2):
            if (a["dataset"], a["setting"]) != (b["dataset"], b["setting"]):
                continue
            high, low = sorted((a, b), key=lambda row: -float(row["value"]))
            stated = next((pair for pair in ((a, b), (b, a)) if _stated(name, *pair)), None)
            if stated and stated[0] is not high:  # the text contradicts the table: both are claims
                claims.append(_claim(name, *stated, source=STATED[name][0]))
            if float(high["value"]) != float(low["value"]):
                in_words = stated is not None and stated[0] is high
                source = f"{a['where']}, {STATED[name][0]}" if in_words else a["where"]
                claims.append(_claim(name, high, low, source=source))
    place = {(r["dataset"], r["setting"], r["training"]): i for i, r in enumerate(rows)}
    return sorted(claims, key=lambda c: sorted(place[c.dataset, c.setting, t] for t in (c.better, c.worse)))


def _stated(name: str, better: Mapping, worse: Mapping) -> bool:
    rivals = STATED.get(name, ("", {}))[1]
    if better["training"] != "art" or better["metric"] not in rivals:
        return False
    return worse["training"] in (rivals[better["metric"]] or (worse["training"],))


def _claim(name: str, better: Mapping, worse: Mapping, *, source: str) -> Claim:
    keys = {k: better[k] for k in ("dataset", "setting", "metric")}
    words = f"{better['approach']} has a higher {_WORDS.get(keys['metric'], keys['metric'])} than {worse['approach']}"
    return Claim(
        id="/".join([name, *filter(None, keys.values()), f"{better['training']}>{worse['training']}"]),
        text=f"{': '.join(filter(None, [keys['dataset'], keys['setting']]))}: {words}"
        f" (printed: {better['value']} and {worse['value']})",
        source=source,
        object=name,
        **keys,
        better=better["training"],
        worse=worse["training"],
        printed=(float(better["value"]), float(worse["value"])),
    )


CLAIMS: tuple[Claim, ...] = tuple(claim for name in TABLES for claim in _claims_of(name))


def _ascending(*rows: str) -> tuple[tuple[str, str], ...]:
    """Each later row above each earlier one, as (better, worse)."""
    return tuple((high, low) for low, high in combinations(rows, 2))


# What section 5 says in words of Figures 8 and 9: metrics, better and worse setting, both named as the rows of
# `grids.sweeps`; art is 50, 0.5 and 3. The values on either side of these are ours.
_ROBUST = ("IN", "K", "adversarial")
TRENDS: dict[str, tuple[tuple[str, ...], tuple[tuple[str, str], ...]]] = {
    "robustness first rises with beta": (_ROBUST, _ascending("beta 10", "beta 25", "art")),
    "robustness then falls with beta": (_ROBUST, _ascending("beta 200", "beta 100", "art")),
    "robustness rises with lambda": (_ROBUST, _ascending("lambda 0", "lambda 0.25", "art", "lambda 0.75")),
    "clean accuracy falls with lambda": (
        ("natural",),
        _ascending("lambda 1", "lambda 0.75", "art", "lambda 0.25", "lambda 0"),
    ),
    "robustness rises before it saturates at 3 steps": (_ROBUST, _ascending("steps 1", "steps 2", "art")),
    # "best-performing values" names no measure; IN and K are what the method is for. The trends above ask it already,
    # but for more steps, which are "the same", and for larger lambdas, where it contradicts the rise to 0.75.
    "0.5 is the best-performing lambda": (("IN", "K"), (("art", "lambda 0.75"), ("art", "lambda 1"))),
}
# What "saturates" means: two settings that score the same.
SATURATES: dict[str, tuple[tuple[str, ...], tuple[tuple[str, str], ...]]] = {
    "robustness saturates after lambda = 0.75": (_ROBUST, (("lambda 1", "lambda 0.75"),)),
    "everything saturates after 3 steps": ((*_ROBUST, "natural"), (("steps 5", "art"), ("steps 7", "art"))),
}


def _said(object: str, dataset: str, metric: str, sides: tuple[str, str], text: str, **others) -> Claim:
    """A claim of a figure or a sentence, of better and worse; others: its source, and fields that are not the usual."""
    id = f"{object}/{dataset}/{metric}/{sides[0]}{'=' if others.get('same') else '>'}{sides[1]}"
    others = dict(setting="", printed=None) | others
    named = dict(object=object, dataset=dataset, metric=metric, better=sides[0], worse=sides[1])
    return Claim(id=id, text=f"{dataset}: {text}", **named, **others)


def transferred(dataset: str = "cifar10") -> tuple[Claim, ...]:
    """What appendix C says along a row of Table 6: perturbations made on ART hurt Natural more than those of PGD-10.

    better and worse are where the perturbations were made, the metric is Natural's accuracy under them. Printed values
    are CIFAR-10's.
    """
    known = {row["metric"]: row["value"] for row in read("table6") if row["training"] == "natural"}
    sides = ("from_pgd", "from_art")
    printed = tuple(float(known[s]) for s in sides) if dataset == "cifar10" else None
    text = "Natural keeps a higher accuracy under perturbations of PGD-10 than under ART's"
    return (_said("table6", dataset, "natural", sides, text, source="Table 6, Appendix C", printed=printed),)


def stronger(dataset: str = "cifar10") -> tuple[Claim, ...]:
    """How section 5's numbers of ART lie: SPSA leaves more accuracy than PGD-40, PGD-100 and PGD-500 as much.

    better and worse are the attacks, the metric is the model. Printed values are CIFAR-10's.
    """
    known = {row["metric"]: row["value"] for row in read("text") if row["setting"] == "stronger"}
    known |= {r["metric"]: r["value"] for r in read("table1") if (r["dataset"], r["training"]) == ("cifar10", "art")}
    found = []
    for attack, name in (("spsa", "SPSA"), ("pgd_100", "PGD-100"), ("pgd_500", "PGD-500")):
        told = f"higher under {name} than" if attack == "spsa" else f"the same under {name} as"
        printed = (float(known[attack]), float(known["adversarial"])) if dataset == "cifar10" else None
        text = f"ART's accuracy is {told} under PGD-40"
        text += f" (printed: {printed[0]} and {printed[1]})" if printed else ""
        options = dict(source="Section 5, Table 1", printed=printed, same=attack != "spsa")
        found.append(_said("text", dataset, "art", (attack, "adversarial"), text, **options))
    return tuple(found)


def alignment(dataset: str = "cifar10") -> tuple[Claim, ...]:
    """What section 5 says of Figure 6: the cosine of image and gradient is higher for ART than for the two others."""
    return tuple(
        _said("figure6", dataset, "alignment", ("art", rival), text, source="Figure 6, Section 5")
        for rival, name in (("natural", "Natural"), ("pgd", "PGD-10"))
        for text in [f"the cosine of image and gradient is higher for ART than for {name}"]
    )


def spread(dataset: str = "cifar10") -> tuple[Claim, ...]:
    """What appendix A.4 says of Figure 11: ART's IN and K are higher, and vary less over images, than the others'.

    The metric of a claim is IN or K in both cases; those of the variation have `spread`, and the heading
    "standard deviation of IN" in their id. Nothing is printed.
    """
    found, source = [], "Figure 11, Appendix A.4"
    for metric in ("IN", "K"):
        for rival, name in (("natural", "Natural"), ("pgd", "PGD-10")):
            text = f"ART has a higher {metric} than {name}"
            found.append(_said("figure11", dataset, metric, ("art", rival), text, source=source))
            text = f"ART's {metric} has a smaller standard deviation over images than {name}'s"
            less = _said("figure11", dataset, metric, ("art", rival), text, source=source, spread=True)
            found.append(replace(less, id=f"figure11/{dataset}/standard deviation of {metric}/art<{rival}"))
    return tuple(found)


def epsilon(dataset: str = "cifar10") -> tuple[Claim, ...]:
    """What appendix A.4 says of Figure 12, asked at one epsilon at a time: ART's IN and K are above both others'."""
    return tuple(
        _said("figure12", dataset, metric, ("art", rival), text, source="Figure 12, Appendix A.4")
        for metric in ("IN", "K")
        for rival, name in (("natural", "Natural"), ("pgd", "PGD-10"))
        for text in [f"ART has a higher {metric} than {name}, whatever the attack's epsilon"]
    )


# Radii of `measurements.AccuracyCurve`, ours: appendix C says "less than 4/255" and "various values of l2".
CURVES = {"linf": ("1", "2"), "l2": ("0.25", "0.5", "1", "1.5", "2")}


def curves(dataset: str = "cifar10") -> tuple[Claim, ...]:
    """What appendix C says of Figure 14, and Table 1 of its ball of 8/255: accuracy under PGD against the ball's size.

    In l_inf of 1 and 2 (/255) ART and PGD-10 are the same, in l2 ART is above. Metrics are the balls, as
    `measurements.AccuracyCurve` names them; printed are CIFAR-10's values at 8/255 and in the l2 ball of 1 (section 5).
    """
    source = "Figure 14, Appendix C"
    rows = {r["training"]: float(r["value"]) for r in read("text") if r["metric"] == "l2_pgd_40"}
    found = [
        _said("figure14", dataset, f"linf_{e}", ("art", "pgd"), text, source=source, same=True)
        for e in CURVES["linf"]
        for text in [f"ART's accuracy under PGD in the l_inf ball of {e}/255 is the same as PGD-10's"]
    ]
    for claim in claims(dataset):
        if claim.metric == "adversarial" and {claim.better, claim.worse} <= {"natural", "pgd", "art"}:
            id = f"figure14/{dataset}/linf_8/{claim.better}>{claim.worse}"
            found.append(replace(claim, id=id, object="figure14", metric="linf_8"))
    for e in CURVES["l2"]:
        printed = (rows["art"], rows["pgd"]) if e == "1" and dataset == "cifar10" else None
        text = f"ART has a higher accuracy under PGD in the l2 ball of {e} than PGD-10"
        text += f" (printed: {printed[0]} and {printed[1]})" if printed else ""
        where = f"{source}, Section 5" if printed else source
        found.append(_said("figure14", dataset, f"l2_{e}", ("art", "pgd"), text, source=where, printed=printed))
    return tuple(found)


def trends(metrics: tuple[str, ...], *, dataset: str = "cifar10") -> tuple[Claim, ...]:
    """The trends of Figures 8 and 9 in some metrics, as two settings in order or the same, without printed values.

    PGD-20 accuracy, which the figures do not have, has none. Raises ValueError for an unknown metric.
    """
    if unknown := [metric for metric in metrics if metric not in ("IN", "K", *_WORDS)]:
        drawn = dict.fromkeys(metric for said in (TRENDS, SATURATES) for of, _ in said.values() for metric in of)
        raise ValueError(f"unknown metric {unknown[0]!r}; Figures 8 and 9 have {', '.join(drawn)}")
    return tuple(
        Claim(
            id=f"sweeps/{metric}/{better}{'=' if same else '>'}{worse}",
            text=f"{dataset}: {text}: {_WORDS.get(metric, metric)} at {better} {words} that at {worse}",
            source="Section 5, Figures 8 and 9",
            object="sweeps",
            dataset=dataset,
            setting="",
            metric=metric,
            better=better,
            worse=worse,
            printed=None,
            same=same,
        )
        for same, words, said in ((False, "above", TRENDS), (True, "the same as", SATURATES))
        for text, (of, pairs) in said.items()
        for metric in of
        if metric in metrics
        for better, worse in pairs
    )


def claims(dataset: str, table: str = "table1", *, setting: str | None = None) -> tuple[Claim, ...]:
    """The claims of a printed table about a data set, in one setting or in all.

    A data set that the table does not have is asked the questions of CIFAR-10 (of the table's first data set where it
    has no CIFAR-10): its claims say so and have no printed values, since those are of other images.

    >>> from artlib import paper
    >>> first = paper.claims("cifar10")[0]
    >>> print(first.metric, first.better, ">", first.worse, first.printed)
    IN pgd > natural (69.0, 40.25)
    """
    read(table)  # an unknown name ends here
    these = [c for c in CLAIMS if c.object == table and setting in (None, c.setting)]
    known = dict.fromkeys(c.dataset for c in these)
    if dataset in known or not these:
        return tuple(c for c in these if c.dataset == dataset)
    other = "cifar10" if "cifar10" in known else next(iter(known))
    asked = f"{dataset}, asked of {_TITLES.get(other, other)}'s table:"
    return tuple(
        replace(c.unprinted, text=c.unprinted.text.replace(f"{other}:", asked, 1)) for c in these if c.dataset == other
    )


def under_the_worst(claims: Sequence[Claim]) -> tuple[Claim, ...]:
    """The claims on IN and K, asked of `measurements.WorstCase`, which looks for more than the paper's attack finds.

    Their printed values are of the paper's attack alone, and left out.
    """
    return tuple(
        replace(
            c.unprinted,
            id=c.id.replace(f"/{c.metric}/", f"/{c.metric}_worst/"),
            text=f"{c.unprinted.text} under the worst of several attacks",
            metric=f"{c.metric}_worst",
        )
        for c in claims
        if c.metric in ("IN", "K")
    )
