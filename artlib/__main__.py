"""Command line: `python -m artlib COMMAND`: train, judge, grid, audit, estimate, download, list, status; `--help` each.

`torchrun --nproc-per-node N -m artlib train ...` trains in N processes, one GPU each; rank 0 alone measures and prints.
"""

import argparse
import sys
from dataclasses import replace

from artlib import audit, costs, data, distributed, effects, grids, presets, results, scoreboard, tables
from artlib.attacks.objectives import OBJECTIVES
from artlib.attributions import ATTRIBUTIONS
from artlib.data import SETS
from artlib.measurements import MEASUREMENTS
from artlib.models import ARCHITECTURES, public
from artlib.paths import slug
from artlib.trainings import PRECISIONS, PROTOCOLS, TRAININGS, pick_device


def main(argv: list[str] | None = None) -> None:
    """Do what is asked and print the outcome; exit with one sentence, status 1, where that cannot be."""
    a = _parser().parse_args(argv)
    try:
        a.run(a)
    except (ValueError, OSError) as error:
        sys.exit(f"artlib: {error}")


def train(a: argparse.Namespace) -> None:
    """Train the model of a preset, or find it; with `judge` measure it too; print its file and its numbers."""
    named = dict(dataset=a.dataset, protocol=a.protocol, seed=a.seed)
    names = (a.measurement or presets.MEASURED) if a.command == "judge" else ()
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
    print(results.model_path(recipe, train).name, *(f"{k} {v:.3f}" for k, v in found.items() if isinstance(v, float)))


def run_audit(a: argparse.Namespace) -> None:
    """Audit a network on images; print its table, write the report, print its path."""
    asked = {k: v for k in ("images", "steps", "k", "seed") if (v := getattr(a, k)) is not None}
    asked |= {"eps": a.eps / 255} if a.eps is not None else {}
    asked |= {k: tuple(v) for k in ("attributions", "objectives") if (v := getattr(a, k))}
    options = dict(weights=a.weights, mean=a.mean, std=a.std, size=a.size, device=a.device)
    found = audit.audit(a.model, a.on, questions=audit.Questions(**asked), **options)
    print(found)
    print(found.save(a.out))


def grid(a: argparse.Namespace) -> None:
    """Train and measure the rows of a grid that are named, or all; write their table and print its file."""
    recipes = grids.GRIDS[a.grid](a.preset, dataset=a.dataset, seed=a.seed)
    if unknown := [row for row in a.row or () if row not in recipes]:
        raise ValueError(f"{a.grid} has no row {unknown[0]!r}; it has {', '.join(recipes)}")
    recipes = {row: recipes[row] for row in a.row or recipes}
    sets = [grids.images(a.preset, split, a.grid, dataset=a.dataset) for split in ("train", "test")]
    asked, device = grids.measurements(a.preset, a.grid, dataset=a.dataset), pick_device(a.device)
    at = dict(train=sets[0], test=sets[1], device=device)
    records = {}
    for row, recipe in recipes.items():
        records[row] = {a.seed: {n: results.measured(recipe, m, **at) for n, m in asked.items()}}
        print(row, *(f"{k} {v:.3f}" for k, v in tables.means(records[row][a.seed]).items() if v == v), flush=True)
    made = {row: record[a.seed] for row, record in records.items()}
    about = results.provenance(a.preset, a.protocol, sets, asked, recipes, made, device=device)
    run = dict(preset=a.preset, notebook=f"grid-{a.grid}", provenance=about)
    name = f"grid-{a.grid}-{slug(a.dataset)}-seed{a.seed}"
    print(results.save_table(tables.table(records, dataset=a.dataset), name, **run))
    if a.grid == "factorial" and len(cells := {row: cell for row, cell in grids.CELLS.items() if row in records}) > 1:
        print(results.save_table(effects.main_effects(records, cells, seed=a.seed), f"{name}-effects", **run))
    verdicts = None
    if a.grid == "sweeps":
        verdicts = effects.trends(records, seed=a.seed)
    elif a.grid == "factorial" and grids.RIVAL in records:
        verdicts = effects.against(records, grids.RIVAL, seed=a.seed)
    if verdicts is not None:
        print(results.save_table(verdicts.reset_index(), f"{name}-claims", **run))


def estimate(a: argparse.Namespace) -> None:
    """Print what a preset costs on this machine, training by training."""
    asked = dict(dataset=a.dataset, protocol=a.protocol, trainings=a.training or presets.TABLE1)
    print(costs.forecast(a.preset, **asked, device=pick_device(a.device)).to_string(float_format="%.3g"))


def download(a: argparse.Namespace) -> None:
    """Fetch a data set, or find its files; print what there is."""
    for split in SETS[a.dataset].images:
        if SETS[a.dataset].images[split]:
            found = data.load(a.dataset, split)
            print(f"{found.name} {found.split}: {len(found):,} images {found.note}".strip())


def show(a: argparse.Namespace) -> None:
    """Print the names that other commands and notebooks take."""
    for title, names in {
        "presets": presets.PRESETS,
        "protocols": PROTOCOLS,
        "data sets": [*SETS, "folder:PATH"],
        "trainings": TRAININGS,
        "architectures": [family.names for family in ARCHITECTURES],
        "public networks": public.PUBLIC,
        "attributions": ATTRIBUTIONS,
        "measurements": MEASUREMENTS,
    }.items():
        print(f"{title + ':':17}{', '.join(names)}")


def status(a: argparse.Namespace) -> None:
    """Print the recorded runs, and the models that lie here, with what is stale of them and why."""
    for name in scoreboard.runs("*"):
        about = scoreboard.about(name)
        print(f"recorded  {name}: {about['preset']} preset, {about['title']}, commit {about['commit']}")
    for folder in (results.RECORDED, results.MODELS):
        for path in sorted(folder.glob("*.safetensors")):
            print(f"model     {path.name}: {results.state(path)}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m artlib", description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    run = _run_options()
    _add_training(commands, run)
    _add_audit(commands)
    _add_grid(commands, run)
    one = _command(commands, "estimate", estimate, "what a preset costs on this machine", run)
    one.add_argument("--training", action="append", choices=TRAININGS, help="default: Table 1's")
    one = _command(commands, "download", download, "fetch a data set, or find its files")
    one.add_argument("dataset", choices=SETS)
    _command(commands, "list", show, "the names there are")
    _command(commands, "status", status, "what is recorded and stored")
    return parser


def _command(commands, name: str, function, told: str, *parents, words: str = "") -> argparse.ArgumentParser:
    """A command that calls `function`, with its line in the list of all."""
    shown = argparse.ArgumentDefaultsHelpFormatter
    one = commands.add_parser(name, parents=parents, help=told, description=told + words, formatter_class=shown)
    one.set_defaults(run=function)
    return one


def _run_options() -> argparse.ArgumentParser:
    """What says which run is meant: of several commands."""
    run = argparse.ArgumentParser(add_help=False)
    preset_help = "smoke tests the code; quick takes minutes, cpu hours, gpu and paper want a GPU"
    run.add_argument("--preset", default="quick", choices=presets.PRESETS, help=preset_help)
    run.add_argument("--dataset", default="blossoms", help=f"{', '.join(SETS)}, or folder:PATH")
    run.add_argument("--protocol", default="paper", choices=PROTOCOLS, help="see DIFFERENCES.md")
    run.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")
    return run


def _add_training(commands, run: argparse.ArgumentParser) -> None:
    words = ". Numbers are percent, means over images: IN is the share of a map's top-k pixels that stay so under "
    words += "attack, K its rank correlation."
    for name, told in (("train", "train a model, or find it"), ("judge", "train a model, or find it, and measure it")):
        one = _command(commands, name, train, told, run, words=words)
        one.add_argument("--training", default="art", choices=TRAININGS)
        one.add_argument("--measurement", action="append", choices=MEASUREMENTS, help="of judge; default: Table 1's")
        one.add_argument("--seed", type=int, default=0, help="of weights, order and attacks")
        one.add_argument("--precision", choices=PRECISIONS, help="instead of the preset's")
        one.add_argument("--micro-batch", type=int, help="images at once, for a small card")
        one.add_argument("--resume-edited", action="store_true", help="go on with a checkpoint of other training code")


def _add_audit(commands) -> None:
    told = "audit the explanations of any network: accuracy, IN, K, LENS, a report"
    one = _command(commands, "audit", run_audit, told)
    one.add_argument("model", help=f"a name of torchvision.models, or one of {', '.join(public.PUBLIC)}")
    one.add_argument("on", metavar="IMAGES", help="a folder of images, FOLDER/<class>/*, or a data set's name")
    one.add_argument("--weights", help="a safetensors file for a network of torchvision's")
    one.add_argument("--mean", type=float, nargs="+", help="of the pixels, a channel; default: ImageNet's")
    one.add_argument("--std", type=float, nargs="+")
    one.add_argument("--size", type=int, help="pixels a side to which files are resized")
    one.add_argument("--attributions", nargs="+", choices=ATTRIBUTIONS)
    one.add_argument("--objectives", nargs="+", choices=OBJECTIVES)
    numbers = {"images": "that are attacked", "steps": "of an attack", "k": "pixels of the top-k", "seed": ""}
    for name, what in numbers.items():
        one.add_argument(f"--{name}", type=int, help=what)
    one.add_argument("--eps", type=float, help="of the l_inf ball, in 255ths")
    one.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")
    one.add_argument("--out", default="audit", help="folder of report.html and report.json")


def _add_grid(commands, run: argparse.ArgumentParser) -> None:
    told = "train and measure the rows of a grid of trainings, and write their table"
    one = _command(commands, "grid", grid, told, run)
    one.add_argument("grid", choices=grids.GRIDS)
    one.add_argument("--row", action="append", help="of the grid; default: all; a wrong one is answered with the list")
    one.add_argument("--seed", type=int, default=0)


if __name__ == "__main__":
    main()
