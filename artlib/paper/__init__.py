"""What the papers print: published numbers and claims as data, and the verdict that a run gives on each claim.

The numbers are those of ART (Singh et al., ECCV 2020), in percent as printed. Of LENS (Kamath et al., AAAI 2024)
nothing is transcribed, so its side of a comparison stays blank. A further table is a file <object>.csv in this folder,
a further number a row of text.csv. `differences` says where texts and released code are not the same.
"""

from artlib.paper.claims import (
    CLAIMS,
    SATURATES,
    TRENDS,
    Claim,
    alignment,
    claims,
    curves,
    epsilon,
    spread,
    stronger,
    transferred,
    trends,
    under_the_worst,
)
from artlib.paper.lens import adversarial_advantage, agreement_or_jitter, random_against_attack
from artlib.paper.published import TABLES, against_paper, differences, published, table
from artlib.paper.verdicts import (
    MARKS,
    SIZE_TOLERANCE,
    SMALLEST_DIFFERENCE,
    SMALLEST_IMAGES,
    SMALLEST_OF,
    Verdict,
    narrower,
    on_common_images,
    verdict,
    verdicts,
)

__all__ = [
    "CLAIMS",
    "MARKS",
    "SATURATES",
    "SIZE_TOLERANCE",
    "SMALLEST_DIFFERENCE",
    "SMALLEST_IMAGES",
    "SMALLEST_OF",
    "TABLES",
    "TRENDS",
    "Claim",
    "Verdict",
    "adversarial_advantage",
    "against_paper",
    "agreement_or_jitter",
    "alignment",
    "claims",
    "curves",
    "differences",
    "epsilon",
    "narrower",
    "on_common_images",
    "published",
    "random_against_attack",
    "spread",
    "stronger",
    "table",
    "transferred",
    "trends",
    "under_the_worst",
    "verdict",
    "verdicts",
]
