"""Command line: `python -m artlib train --dataset blossoms --training art`, and `judge`, which also evaluates.

`torchrun --nproc-per-node N -m artlib ...` trains in N processes, one GPU each; rank 0 alone evaluates and prints.
"""

import argparse
import sys
from dataclasses import replace

from artlib import costs, distributed, presets, results, tables
from artlib.training import PRECISIONS, TRAININGS, pick_device


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
    parser.add_argument("--precision", choices=PRECISIONS, help="instead of the preset's")
    parser.add_argument("--micro-batch", type=int, help="images at once, for a small card")
    a = parser.parse_args(argv)
    try:
        with distributed.joined():
            device = pick_device(a.device)
            named = dict(dataset=a.dataset, protocol=a.protocol, seed=a.seed)
            changes = {k: v for k in ("precision", "micro_batch") if (v := getattr(a, k)) is not None}
            recipe = replace(presets.recipe(a.preset, a.training, **named), **changes)
            with distributed.first():  # the others find what it downloads
                train = presets.images(a.preset, "train", dataset=a.dataset)
            if distributed.world() == 1 and not results.model_path(recipe, train).exists():
                work = dict(dataset=a.dataset, protocol=a.protocol, trainings=[a.training], judged=a.command == "judge")
                print(costs.announcement(a.preset, device=device, **work), flush=True)
            results.model(recipe, train, device=device)
            leads = distributed.rank() == 0
        if not leads:
            return
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
