"""Trainings, a `Recipe` that says everything about one, and `fit`. A new one is a file and a line in `TRAININGS`."""

from artlib.trainings.adl import Adl
from artlib.trainings.art import Art, art_loss, cosine_distance, runner_up
from artlib.trainings.art_variants import ArtVariant
from artlib.trainings.cure import Cure
from artlib.trainings.fit import arithmetic, build_model, fit, learning_rate, pick_device
from artlib.trainings.ig_norm import IgNorm, IgSumNorm
from artlib.trainings.igr import Igr
from artlib.trainings.jarn import Jarn
from artlib.trainings.lga import Lga
from artlib.trainings.natural import Natural
from artlib.trainings.pgd import Pgd
from artlib.trainings.recipe import PRECISIONS, Recipe, paper_recipe
from artlib.trainings.trades import Trades
from artlib.trainings.training import PROTOCOLS, Batch, InnerAttack, Losses, Training

TRAININGS = {
    training.name: training
    for training in (Natural, Pgd, Trades, IgNorm, IgSumNorm, Cure, Jarn, Igr, Adl, Lga, Art, ArtVariant)
}


def title(training: str) -> str:
    """The name of a training for readers: its title, else the name itself."""
    return getattr(TRAININGS.get(training), "title", training)


__all__ = [
    "PRECISIONS",
    "PROTOCOLS",
    "TRAININGS",
    "Adl",
    "Art",
    "ArtVariant",
    "Batch",
    "IgNorm",
    "IgSumNorm",
    "Cure",
    "Igr",
    "InnerAttack",
    "Jarn",
    "Lga",
    "Losses",
    "Natural",
    "Pgd",
    "Recipe",
    "Training",
    "arithmetic",
    "art_loss",
    "build_model",
    "cosine_distance",
    "fit",
    "learning_rate",
    "paper_recipe",
    "pick_device",
    "runner_up",
    "title",
]
