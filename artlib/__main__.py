"""Command line: `python -m artlib train --dataset blossoms --training art`, and `judge`, which also measures.

`torchrun --nproc-per-node N -m artlib ...` trains in N processes, one GPU each; rank 0 alone measures and prints.
"""

import argparse
import sys
from dataclasses import replace

from artlib import costs, distributed, presets, results, tables
from artlib.data import SETS
from artlib.measurements import MEASUREMENTS
from artlib.trainings import PRECISIONS, PROTOCOLS, TRAININGS, pick_device


def main(argv: list[str] | None = None) -> None:
    """Train the model of a preset, or find it; with `judge` measure it too; print its file and its numbers."""
    a = _parser().parse_args(argv)
    named = dict(dataset=a.dataset, protocol=a.protocol, seed=a.seed)
    names = (a.measurement or presets.MEASURED) if a.command == "judge" else ()
    try:
        with distributed.joined():
            device = pick_device(a.device)
            changes = {k: v for k in ("precision", "micro_batch") if (v := getattr(a, k)) is not None}
            recipe = replace(presets.recipe(a.preset, a.training, **named), **changes)
            with distributed.first():  # the others find what it downloads
                train = presets.images(a.preset, "train", dataset=a.dataset)
            if distributed.world() == 1 and not results.model_path(recipe, train).exists():
                work = dict(dataset=a.dataset, protocol=a.protocol, trainings=[a.training], measurements=names)
                print(costs.announcement(a.preset, device=device, **work), flush=True)
            results.model(recipe, train, device=device, edited=a.resume_edited)
            leads = distributed.rank() == 0
        if not leads:
            return
        found = results.training_record(recipe, train)["history"][-1]
        if names:
            test = presets.images(a.preset, "test", dataset=a.dataset)
            asked = presets.measurements(a.preset, names=names, dataset=a.dataset, protocol=a.protocol)  # of any seed
            record = {n: results.measured(recipe, m, train=train, test=test, device=device) for n, m in asked.items()}
            found = tables.means(record)
    except (ValueError, OSError) as error:
        sys.exit(f"artlib: {error}")
    print(results.model_path(recipe, train).name, *(f"{k} {v:.3f}" for k, v in found.items() if isinstance(v, float)))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m artlib",
        description="Train one model of a preset, or find it, and with judge measure it. Numbers are percent, means "
        "over images: IN is the share of a map's top-k pixels that stay so under attack, K its rank correlation.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("command", choices=("train", "judge"), help="train, or train and measure")
    preset_help = "smoke tests the code; quick takes minutes, cpu hours, gpu and paper want a GPU"
    parser.add_argument("--preset", default="quick", choices=presets.PRESETS, help=preset_help)
    parser.add_argument("--dataset", default="blossoms", help=f"{', '.join(SETS)}, or folder:PATH")
    parser.add_argument("--training", default="art", choices=TRAININGS)
    parser.add_argument("--measurement", action="append", choices=MEASUREMENTS, help="of judge; default: Table 1's")
    parser.add_argument("--protocol", default="paper", choices=PROTOCOLS, help="see DIFFERENCES.md")
    parser.add_argument("--seed", type=int, default=0, help="of weights, order and attacks")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")
    parser.add_argument("--precision", choices=PRECISIONS, help="instead of the preset's")
    parser.add_argument("--micro-batch", type=int, help="images at once, for a small card")
    parser.add_argument("--resume-edited", action="store_true", help="go on with a checkpoint of other training code")
    return parser


if __name__ == "__main__":
    main()
