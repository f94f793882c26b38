"""What a grid of trainings says: main effects of its factors, and the paper's claims about its rows."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from artlib import grids, paper, tables

if TYPE_CHECKING:
    import pandas as pd

Cells = Mapping[str, Mapping[str, str]]  # by row of a factorial: its level of every factor


def main_effects(
    records: tables.Records, cells: Cells, *, columns: Sequence[str] | None = None, samples: int = 2000, seed: int = 0
) -> "pd.DataFrame":
    """One row per metric, factor and level but its first: the mean at this level less that at the first level.

    Means are over the other factors' levels (and over seeds), in the unit of the metric. low, high: the 95 % percentile
    bootstrap over images, drawn with replacement and the same in every cell, so that cells are paired by image; an
    image counts in the cells where it has a value, since IN and K are taken on what each model classifies correctly.
    images: how many are drawn from. Rows of records that are no cell are left out.
    Raises ValueError for cells that are no full factorial, and for a cell without records or without a value.
    """
    import pandas as pd

    contrasts, rows = _contrasts(cells), []
    if missing := [name for name in cells if not records.get(name)]:
        raise ValueError(f"no records of {', '.join(missing)}: every cell of the factorial must be measured")
    every = tables.metric_columns(details=columns is not None)
    measured = {m for name in cells for record in records[name].values() for m in record}
    for column in columns or [c for c, (name, _) in every.items() if name in measured]:
        values = [_by_cell(records[name], column) for name in cells]  # by cell and seed: value by image
        images = sorted({i for seeds in values for each in seeds for i in each})
        if empty := [name for name, seeds in zip(cells, values, strict=True) if not all(seeds)]:
            raise ValueError(f"no image has a {column} in {', '.join(empty)}")
        draws = torch.randint(len(images), (samples, len(images)), generator=torch.Generator().manual_seed(seed))
        weights = torch.zeros(samples, len(images), dtype=torch.float64)
        weights.scatter_add_(1, draws, torch.ones_like(draws, dtype=torch.float64))
        weights = torch.cat([torch.ones(1, len(images), dtype=torch.float64), weights])  # first the sample itself
        means = torch.stack([_cell_means(weights, seeds, images) for seeds in values], 1)
        for (factor, first, level), contrast in contrasts.items():
            found = means @ contrast
            low, high = found[1:].nanquantile(found.new_tensor([0.025, 0.975])).tolist()
            numbers = {"effect": found[0].item(), "low": low, "high": high, "images": len(images)}
            rows.append({"metric": column, "factor": factor, "from": first, "to": level} | numbers)
    return pd.DataFrame(rows)


def _contrasts(cells: Cells) -> dict[tuple[str, str, str], Tensor]:
    """By factor, first and other level: weights of the cells, 1 / n at the other level and -1 / n at the first."""
    factors = {f: list(dict.fromkeys(cell[f] for cell in cells.values())) for f in next(iter(cells.values()))}
    expected = 1
    for levels in factors.values():
        expected *= len(levels)
    if len({tuple(cell.items()) for cell in cells.values()}) != expected or len(cells) != expected:
        raise ValueError(
            f"{len(cells)} cells are no full factorial of {', '.join(f'{f} ({len(v)})' for f, v in factors.items())}"
        )
    found = {}
    for factor, (first, *others) in factors.items():
        at = {v: torch.tensor([float(c[factor] == v) for c in cells.values()]).double() for v in (first, *others)}
        found |= {(factor, first, v): at[v] / at[v].sum() - at[first] / at[first].sum() for v in others}
    return found


def _by_cell(seeds: Mapping[int, Mapping[str, dict]], column: str) -> list[dict[int, float]]:
    name, metric = tables.metric_columns()[column]
    each = [record[name]["values"] for record in seeds.values()]
    return [{i: metric.scale * v for i, v in zip(e["index"], e[column], strict=True) if v is not None} for e in each]


def _cell_means(weights: Tensor, seeds: list[dict[int, float]], images: list[int]) -> Tensor:
    """The mean of one cell by draw, (draws,), over the images that have a value in it, then over seeds."""
    found = []
    for values in seeds:
        kept = torch.tensor([float(i in values) for i in images], dtype=torch.float64)
        each = torch.tensor([values.get(i, 0.0) for i in images], dtype=torch.float64)
        found.append(weights @ each / (weights @ kept))
    return torch.stack(found).mean(0)


METRICS = ("IN", "K", "natural", "adversarial", "pgd_20")


def verdicts(
    records: tables.Records, grid: str, *, dataset: str, seed: int, metrics: Sequence[str] = METRICS
) -> "pd.DataFrame":
    """`paper.verdicts` on what ART's paper says of the rows of a grid, each two on the images that both have.

    factorial and lengths: what Table 1 says of ART and PGD, of every row of ART as ART and its rival (`grids.rivals`)
    as PGD; sweeps: `paper.trends`; objectives: Table 5; others: what appendix C says of JARN, CURE and L_attr + L_ce.
    """
    asked = [c for c in _claims(records, grid, dataset=dataset) if c.metric in metrics]
    return judged(records, asked, seed=seed).drop(columns="text").rename_axis("claim")


def judged(records: tables.Records, claims: Sequence[paper.Claim], *, seed: int) -> "pd.DataFrame":
    """`paper.verdicts` on claims about rows of records, each two on the images that both have, in pairs."""
    import pandas as pd

    pairs: dict[frozenset[str], list[paper.Claim]] = {}
    for claim in claims:
        pairs.setdefault(frozenset((claim.better, claim.worse)), []).append(claim)
    found = [paper.verdicts({}, [], generator=torch.Generator())]
    for names, asked in pairs.items():
        pair = tables.values({name: r for name, r in records.items() if name in names}, common=True)
        options = dict(paired=[c.metric for c in asked], generator=torch.Generator().manual_seed(seed))
        found.append(paper.verdicts(pair, asked, **options))
    return pd.concat(found[1:] or found)


def deviations(records: tables.Records, columns: Sequence[str], *, seed: int) -> "pd.DataFrame":
    """The standard deviation over images of each training's columns, with its bootstrap interval, as rows of a table.

    metric: "standard deviation of IN"; mean, low, high as by `paper.narrower`, beside values that do not vary.
    """
    import pandas as pd

    rows = []
    for training, values in tables.values(records).items():
        for column in columns:
            level = [[0.0] * len(each) for each in values[column]]
            found = paper.narrower(level, values[column], generator=torch.Generator().manual_seed(seed))
            row = {"training": training, "title": tables.title(training), "metric": f"standard deviation of {column}"}
            rows.append(row | {"mean": found.difference, "low": found.low, "high": found.high})
    return pd.DataFrame(rows)


def along(
    seeds: Mapping[int, Mapping[str, dict]], columns: Sequence[str], *, name: str
) -> dict[str, dict[str, list[list[float]]]]:
    """Per-image values of one training in several columns, in pairs: [column][name] is a list a seed.

    seeds: its records by seed; columns may be of different measurements: the images are those that have a value in all.
    """
    found: dict[str, dict[str, list[list[float]]]] = {column: {name: []} for column in columns}
    for by_image in zip(*(_by_cell(seeds, column) for column in columns), strict=True):
        images = sorted(set.intersection(*map(set, by_image)))
        for column, values in zip(columns, by_image, strict=True):
            found[column][name].append([values[i] for i in images])
    return found


def gaps(records: tables.Records, pairs: Sequence[tuple[str, str]], *, seed: int) -> "pd.DataFrame":
    """Of each training and two columns, the mean of the first less that of the second: a row a training and pair.

    training: its title; attacks: "PGD-100 less PGD accuracy"; difference, low, high and images as by `paper.verdict`,
    in pairs, of the images that have a value in all the columns (`along`).
    """
    import pandas as pd

    noise, rows = torch.Generator().manual_seed(seed), []
    for training, seeds in records.items():
        held = along(seeds, sorted({column for pair in pairs for column in pair}), name=training)
        for a, b in pairs:
            found = paper.verdict(held[a][training], held[b][training], generator=noise)
            row = {"training": tables.title(training), "attacks": f"{tables.heading(a)} less {tables.heading(b)}"}
            rows.append(row | {k: getattr(found, k) for k in ("difference", "low", "high", "images")})
    return pd.DataFrame(rows)


def _claims(records: tables.Records, grid: str, *, dataset: str) -> list[paper.Claim]:
    if grid == "sweeps":
        return list(paper.trends(METRICS, dataset=dataset))
    if grid == "objectives":
        return list(paper.claims(dataset, "table5"))
    if grid == "others":
        found = [c for s in ("pgd_20", "combined") for c in paper.claims(dataset, "text", setting=s)]
        return [c for c in found if {c.better, c.worse} != {"art", "pgd"}]  # that is Table 1's
    found = []
    for row, rival in grids.rivals(grid, records).items():
        own = {"art": row, "pgd": rival}
        for c in paper.claims("cifar10"):
            if {c.better, c.worse} == set(own):
                better, worse = own[c.better], own[c.worse]
                id = f"{grid}/{c.metric}/{better}>{worse}"
                found.append(replace(c, id=id, better=better, worse=worse, printed=None))
    return found
