"""Command line: `python -m artlib train --preset quick --dataset blossoms --training art` trains (or finds) a model."""

import argparse
import sys

from artlib import presets, results
from artlib.training import TRAININGS, pick_device


def main(argv: list[str] | None = None) -> None:
    """Train the model of a preset, or take note that it exists; prints its file and its last epoch."""
    parser = argparse.ArgumentParser(prog="python -m artlib")
    train = parser.add_subparsers(dest="command", required=True).add_parser("train", help="train a model of a preset")
    train.add_argument("--preset", default="quick", choices=presets.PRESETS)
    train.add_argument("--dataset", default="blossoms", help="a name in artlib.data.SETS, or folder:PATH")
    train.add_argument("--training", default="art", choices=TRAININGS)
    train.add_argument("--protocol", default="paper", choices=presets.PROTOCOLS)
    train.add_argument("--seed", type=int, default=0)
    train.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")
    a = parser.parse_args(argv)
    try:
        recipe = presets.recipe(a.preset, a.training, dataset=a.dataset, protocol=a.protocol, seed=a.seed)
        images = presets.images(a.preset, "train", dataset=a.dataset)
        results.model(recipe, images, device=pick_device(a.device))
    except (ValueError, OSError) as error:
        sys.exit(f"artlib: {error}")
    last = results.training_record(recipe, images)["history"][-1]
    print(results.model_path(recipe, images).name, *(f"{k} {v:.3f}" for k, v in last.items()))


if __name__ == "__main__":
    main()
