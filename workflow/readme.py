"""Writes the scoreboards of both READMEs from the recorded runs, and the tables of DIFFERENCES.md: `make readme`.

Tests hold them together.
"""

import re

import pandas as pd

from artlib import scoreboard
from artlib.paths import ROOT

MARKS = re.compile(r"(<!-- scoreboard: .*? -->\n).*?(<!-- end of scoreboard -->)", re.DOTALL)


def written(text: str) -> str:
    """README with one table of the runs on real images."""
    return _filled(text, scoreboard.markdown(short(scoreboard.everything("table1", blank=False))))


def short(found: "pd.DataFrame") -> "pd.DataFrame":
    """What README has room for: protocol "paper", real images, trainings measured; other settings, which are named,
    where the paper prints something."""
    names = set(scoreboard.NAMES.values())
    rows = {}
    for (data, training), row in found.iterrows():
        name, (_, *after) = re.split(r" \(|, ", data)[0], re.split(r"protocol paper(?:, \d+ seeds)?", data)
        settings = "".join(after).removeprefix(", ")
        known = after and name in names and not row.str.endswith("| ").any()
        if known and (not settings or row.str.contains("|", regex=False).any()):
            rows[f"{name}{f' ({settings})' if settings else ''}: {training}"] = row
    return pd.DataFrame.from_dict(rows, orient="index")


def whole(text: str) -> str:
    """figures/reference/README.md with every recorded run of Table 1."""
    found = scoreboard.everything("table1")
    parts = (f"**{data}**\n\n{scoreboard.markdown(found.loc[data])}" for data in found.index.unique(0))
    return _filled(text, "\n\n".join(parts))


def _filled(text: str, board: str) -> str:
    return MARKS.sub(lambda m: f"{m[1]}\n{board}\n\n{m[2]}", text)


TABLE = re.compile(r"(<!-- differences: (.*?) -->\n).*?(<!-- end -->)", re.DOTALL)


def differences(text: str) -> str:
    """DIFFERENCES.md with the tables of `paper.differences`, one a topic, and of their measured effects."""
    rows, effects = (
        scoreboard.differences().rename(columns={"text": "the text", "code": "the code"}),
        scoreboard.effects(),
    )

    def table(found: re.Match) -> str:
        if found[2] == "effects":
            shown = effects.reset_index().set_index("row")
        else:
            own = rows.loc[found[2]]
            shown = own[[c for c in own if own[c].any()]]
        head, *lines = scoreboard.markdown(shown).split("\n")
        return "\n".join([found[1].rstrip(), "", "| # " + head[3:], *lines, "", found[3]])

    return TABLE.sub(table, text)


if __name__ == "__main__":
    files = {"README.md": written, "figures/reference/README.md": whole, "DIFFERENCES.md": differences}
    for name, write in files.items():
        path = ROOT / name
        path.write_text(write(path.read_text()))
