"""Writes README's scoreboard from the recorded runs, and the tables of DIFFERENCES.md: `make readme`.

Tests hold them together.
"""

import re

from artlib import paper, scoreboard
from artlib.paths import ROOT

MARKS = re.compile(r"(<!-- scoreboard: .*? -->\n).*?(<!-- end of scoreboard -->)", re.DOTALL)


def written(text: str) -> str:
    """The README with the scoreboard that the records give."""
    found = scoreboard.everything("table1", blank=False)
    parts = [f"**{data}**\n\n{scoreboard.markdown(found.loc[data])}" for data in found.index.unique(0)]
    return MARKS.sub(lambda m: m[1] + "\n" + "\n\n".join(parts) + "\n\n" + m[2], text)


TABLE = re.compile(r"(<!-- differences: (.*?) -->\n).*?(<!-- end -->)", re.DOTALL)


def differences(text: str) -> str:
    """DIFFERENCES.md with the tables of `paper.differences`, one a topic, and of their measured effects."""
    rows = paper.differences()
    fields = rows["field"].str.replace(r"\w+\.(?=[A-Z][a-z])", "", regex=True).str.split("; ")
    rows["field"] = fields.map(lambda names: ", ".join(f"`{name}`" for name in names if name))
    effects = scoreboard.effects()
    known = rows["id"].isin(effects.index.get_level_values(0) if len(effects) else [])
    rows["measured"] = rows["measured"].where(~rows["measured"].str.contains(r"^\S+: (?<!none: )"), "")
    rows.loc[known, "measured"] = "below"
    rows["measured"] = rows["measured"].str.replace(r"^notebook (\w+)$", r"`\1`", regex=True)
    words = {"id": "#", "text": "the text", "code": "the code", "field": "in artlib", "measured": "effect on numbers"}

    def table(found: re.Match) -> str:
        if found[2] == "effects":
            shown = effects.reset_index().set_index("row")
        else:
            own = rows[rows["topic"] == found[2]].drop(columns="topic")
            own = own[[c for c in own if own[c].any()]]
            shown = own.rename(columns=words).set_index("#")
        head, *lines = scoreboard.markdown(shown).split("\n")
        return "\n".join([found[1].rstrip(), "", "| # " + head[3:], *lines, "", found[3]])

    return TABLE.sub(table, text)


if __name__ == "__main__":
    for name, write in (("README.md", written), ("DIFFERENCES.md", differences)):
        path = ROOT / name
        path.write_text(write(path.read_text()))
