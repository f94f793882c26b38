"""Writes README's scoreboard from the recorded runs: `make readme`. A test holds the two together."""

import re

from artlib import scoreboard
from artlib.paths import ROOT

MARKS = re.compile(r"(<!-- scoreboard: .*? -->\n).*?(<!-- end of scoreboard -->)", re.DOTALL)


def written(text: str) -> str:
    """The README with the scoreboard that the records give."""
    found = scoreboard.everything("table1", blank=False)
    parts = [f"**{data}**\n\n{scoreboard.markdown(found.loc[data])}" for data in found.index.unique(0)]
    return MARKS.sub(lambda m: m[1] + "\n" + "\n\n".join(parts) + "\n\n" + m[2], text)


if __name__ == "__main__":
    path = ROOT / "README.md"
    path.write_text(written(path.read_text()))
