"""Writes README's scoreboard from the recorded runs, and the tables of DIFFERENCES.md: `make readme`.

Tests hold them together.
"""

import re

from artlib import scoreboard
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
    for name, write in (("README.md", written), ("DIFFERENCES.md", differences)):
        path = ROOT / name
        path.write_text(write(path.read_text()))
