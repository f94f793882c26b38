"""Command line: `python -m artlib train --dataset blossoms --training art`, and `judge`, which also evaluates."""

import argparse
import sys

from artlib import presets, results, tables
from artlib.training import TRAININGS, pick_device


def main(argv: list[str] | None = None) -> None:
    """Train the model of a preset, or find it; with `judge` evaluate it too; print its file and its numbers."""
    parser = argparse.ArgumentParser(prog="python -m artlib")
    parser.add_argument("command", choices=("train", "judge"))
    parser.add_argument("--preset", default="quick", choices=presets.PRESETS)
    parser.add_argument("--dataset", default="blossoms", help="a name in artlib.data.SETS, or folder:PATH")
    parser.add_argument("--training", default="art", choices=TRAININGS)
    parser.add_argument("--protocol", default="paper", choices=presets.PROTOCOLS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")
    a = parser.parse_args(argv)
    try:
        device = pick_device(a.device)
        named = dict(dataset=a.dataset, protocol=a.protocol, seed=a.seed)
        recipe = presets.recipe(a.preset, a.training, **named)
        train = presets.images(a.preset, "train", dataset=a.dataset)
        results.model(recipe, train, device=device)
        found = results.training_record(recipe, train)["history"][-1]
        if a.command == "judge":
            test = presets.images(a.preset, "test", dataset=a.dataset)
            record = results.judged(
                recipe, presets.evaluation(a.preset, **named), train=train, test=test, device=device
            )
            table = tables.table1({a.training: record}, dataset=a.dataset, seed=a.seed)
            found = dict(zip(table["metric"], table["mean"], strict=True))
    except (ValueError, OSError) as error:
        sys.exit(f"artlib: {error}")
    print(results.model_path(recipe, train).name, *(f"{k} {v:.3f}" for k, v in found.items()))


if __name__ == "__main__":
    main()
