"""Robustness of explanations from the command line: `python -m artlib COMMAND`; each has a `--help` with examples.

`torchrun --nproc-per-node N -m artlib train ...` trains in N processes, one GPU each; rank 0 alone measures and prints.
"""

# What a command needs is imported in it: torch takes seconds, and `--help` or a misspelt command should not.
import argparse
import importlib
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path


def main(argv: list[str] | None = None) -> None:
    """Do what is asked and print the outcome; exit with one sentence, status 1, where that cannot be.

    Status 2: wrong arguments; 130: stopped by ctrl-c.
    """
    argv = sys.argv[1:] if argv is None else argv
    parser = _parser(argv[0] if argv else "")
    if not argv:
        parser.print_help(sys.stderr)
        sys.exit(2)
    a = parser.parse_args(argv)
    try:
        COMMANDS[a.command].run(a)
    except (ValueError, OSError) as error:
        sys.exit(f"artlib: {error}")
    except KeyboardInterrupt:
        print("\nartlib: stopped; what is done is kept, and the same command goes on from there", file=sys.stderr)
        sys.exit(130)


def train(a: argparse.Namespace) -> None:
    """Train the model of a preset, or find it; with `judge` measure it too; print its file and its numbers."""
    from artlib import costs, distributed, presets, results, tables
    from artlib.trainings import pick_device

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


def _audit():
    """`artlib.audit`, by its name: an import would be followed by `results`, while the audit is half-loaded."""
    return importlib.import_module("artlib.audit")


def run_audit(a: argparse.Namespace) -> None:
    """Audit a network on images; print its table, write the report, print its path."""
    audit = _audit()
    asked = {k: v for k in ("images", "steps", "k", "seed") if (v := getattr(a, k)) is not None}
    if a.eps is not None:
        if not 0 <= a.eps <= 255:
            raise ValueError(f"--eps is {a.eps:g}; it is in 255ths of the pixels' range, from 0 to 255: 8 means 8/255")
        if 0 < a.eps < 0.1:
            raise ValueError(f"--eps is in 255ths of the pixels' range: {a.eps:g} is next to nothing; 8 means 8/255")
        asked["eps"] = a.eps / 255
    asked |= {k: tuple(v) for k in ("attributions", "objectives") if (v := getattr(a, k))}
    options = dict(weights=a.weights, mean=a.mean, std=a.std, size=a.size, device=a.device)
    found = audit.audit(a.model, a.on, questions=audit.Questions(**asked), **options)
    print(found)
    path = Path(a.on.removeprefix("folder:")).expanduser()
    on = path.resolve().name if path.is_dir() else a.on
    print(found.save(a.out or re.sub(r"[^\w.-]+", "_", f"audit-of-{found.about['model']}-on-{on}")))


def grid(a: argparse.Namespace) -> None:
    """Train and measure the rows of a grid that are named, or all; write their table and print its file."""
    from artlib import effects, grids, results, tables
    from artlib.paths import slug
    from artlib.trainings import pick_device

    recipes = grids.rows(a.grid, a.preset, dataset=a.dataset, names=a.row, seed=a.seed)
    sets = [grids.images(a.preset, split, a.grid, dataset=a.dataset) for split in ("train", "test")]
    asked, device = grids.measurements(a.preset, a.grid, dataset=a.dataset), pick_device(a.device)
    at = dict(train=sets[0], test=sets[1], device=device)
    records = {}
    for row, recipe in recipes.items():
        records[row] = {a.seed: {n: results.measured(recipe, m, **at) for n, m in asked.items()}}
        print(row, *(f"{k} {v:.3f}" for k, v in tables.means(records[row][a.seed]).items() if v == v), flush=True)
    made = {row: record[a.seed] for row, record in records.items()}
    about = results.provenance(a.preset, "paper", sets, asked, recipes, made, device=device)
    run = dict(preset=a.preset, notebook=f"grid-{a.grid}", provenance=about)
    name = f"grid-{a.grid}-{slug(a.dataset)}-seed{a.seed}"
    print(results.save_table(tables.table(records, dataset=a.dataset), name, **run))
    if a.grid == "factorial" and len(cells := {row: cell for row, cell in grids.CELLS.items() if row in records}) > 1:
        print(results.save_table(effects.main_effects(records, cells, seed=a.seed), f"{name}-effects", **run))
    verdicts = effects.verdicts(records, a.grid, dataset=a.dataset, seed=a.seed)
    if verdicts["difference"].notna().any():
        print(results.save_table(verdicts.reset_index(), f"{name}-claims", **run))


def estimate(a: argparse.Namespace) -> None:
    """Print what a preset costs on this machine, training by training."""
    from artlib import costs, presets
    from artlib.trainings import pick_device

    asked = dict(dataset=a.dataset, protocol=a.protocol, trainings=a.training or presets.TABLE1)
    found = costs.forecast(a.preset, **asked, device=pick_device(a.device))
    found["time"] = (3600 * found.pop("hours")).map(costs.duration)
    print(found.to_string(float_format="%.3g", na_rep=""))


def download(a: argparse.Namespace) -> None:
    """Fetch a data set, or find its files; print what there is."""
    from artlib import data
    from artlib.data import corruptions

    if a.dataset == "cifar10_c":
        print(f"CIFAR-10-C: {corruptions.download()}")
        return
    for split, number in data.SETS[a.dataset].images.items():
        if number:
            found = data.load(a.dataset, split)
            print(f"{found.name} {found.split}: {len(found):,} images {found.note}".strip())


def show(a: argparse.Namespace) -> None:
    """Print the names that other commands and notebooks take."""
    audit = _audit()
    from artlib import presets
    from artlib.attributions import ATTRIBUTIONS
    from artlib.data import SETS
    from artlib.grids import GRIDS
    from artlib.measurements import MEASUREMENTS
    from artlib.models import ARCHITECTURES, public
    from artlib.trainings import PROTOCOLS, TRAININGS

    for title, names in {
        "presets": presets.PRESETS,
        "protocols": PROTOCOLS,
        "data sets": [*SETS, "folder:PATH"],
        "trainings": TRAININGS,
        "architectures": [family.names for family in ARCHITECTURES],
        "public networks": public.PUBLIC,
        "attributions": ATTRIBUTIONS,
        "attacks": audit.attacks(),
        "measurements": MEASUREMENTS,
        "grids": GRIDS,
    }.items():
        titles = {name: getattr(kind, "title", "") for name, kind in names.items()} if isinstance(names, dict) else {}
        told = [f"{name} ({titles[name]})" if titles.get(name) else name for name in names]
        print(f"{title + ':':17}{', '.join(told)}")


def status(a: argparse.Namespace) -> None:
    """Print the recorded runs, the models that lie here, what is stale of them and why, and what else is stored."""
    from artlib import results, scoreboard

    for name in scoreboard.runs("*"):
        about = scoreboard.about(name)
        print(f"recorded  {name}: {about['preset']} preset, {about['title']}, commit {about['commit']}")
    found = [path for folder in (results.RECORDED, results.MODELS) for path in sorted(folder.glob("*.safetensors"))]
    states = {path: results.state(path) for path in found}
    named = {path: results.named(path) for path in found}
    for path in sorted(found, key=named.get, reverse=True):  # the others below
        print(f"{'model' if named[path] else 'other':10}{path.name}: {states[path]}")
    if not all(named.values()):
        print("other     no preset's recipe, as it is now, names these: rows of grids, changed settings, older recipes")
    if any("has changed" in state for state in states.values()):
        print(
            "changed   models of other training code are used as they are, and recorded tables name the commit that "
            "made them; to see what today's code makes of a recipe, delete the file and run the same command"
        )
    for path in sorted(results.MODELS.glob("*.checkpoint")):
        print(f"stopped   {path.name}: the same command goes on with it")
    print(f"measurements in {results.MODELS}: {sum(1 for _ in results.MODELS.glob('*.json'))}")


@dataclass(frozen=True)
class Command:
    """What it does, in a line; the function; what adds its options, called only if it was chosen; examples."""

    told: str
    run: Callable[[argparse.Namespace], None]
    options: Callable[[argparse.ArgumentParser], None] = lambda one: None
    examples: str = ""


def _parser(chosen: str) -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m artlib", description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        examples = command.examples and "examples:\n" + command.examples
        told = command.told[0].upper() + command.told[1:] + "."
        one = commands.add_parser(name, help=command.told, description=told, epilog=examples, formatter_class=raw)
        if name == chosen:
            command.options(one)
    return parser


def _run_options(one: argparse.ArgumentParser, *, protocol: bool = True, seed: bool = True) -> None:
    """What says which run is meant: of several commands."""
    from artlib import presets
    from artlib.data import SETS
    from artlib.trainings import PROTOCOLS

    one.add_argument(
        "--preset",
        default="quick",
        choices=presets.PRESETS,
        help="smoke tests the code; quick takes minutes, cpu hours, gpu and paper want a GPU (default: quick)",
    )
    one.add_argument("--dataset", default="blossoms", help=f"{', '.join(SETS)}, or folder:PATH (default: blossoms)")
    if protocol:
        told = "where ART's text and released code differ: see DIFFERENCES.md (default: paper)"
        one.add_argument("--protocol", default="paper", choices=PROTOCOLS, help=told)
    if seed:
        one.add_argument("--seed", type=int, default=0, help="of weights, order and attacks (default: 0)")
    _device(one)


def _device(one: argparse.ArgumentParser) -> None:
    one.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ... (default: auto)")


def _train_options(one: argparse.ArgumentParser) -> None:
    from artlib.trainings import PRECISIONS, TRAININGS

    one.add_argument("--training", default="art", choices=TRAININGS, help="default: art")
    _run_options(one)
    one.add_argument("--precision", choices=PRECISIONS, help="instead of the preset's")
    one.add_argument("--micro-batch", type=int, help="images at once, for a small card")
    one.add_argument("--resume-edited", action="store_true", help="go on with a checkpoint of other training code")


def _judge_options(one: argparse.ArgumentParser) -> None:
    from artlib.measurements import MEASUREMENTS

    _train_options(one)
    one.add_argument("--measurement", action="append", choices=MEASUREMENTS, help="may be repeated; default: Table 1's")


IMAGES = """a folder of images by class, FOLDER/<class>/* (all of them, or FOLDER/test/<class>/* where there is that);
a folder of images alone, whose predictions are explained; folder:PATH, the test fifth of a folder that a network was
trained on here; or a data set's name"""


WEIGHTS = """the file of the network's trained weights: safetensors, or what torch.save wrote of its state_dict or of a
checkpoint with it (default: those that a name has, of FILE.py:NAME those that it is made with)"""


def _audit_options(one: argparse.ArgumentParser) -> None:
    audit = _audit()
    from artlib.attributions import ATTRIBUTIONS
    from artlib.models import public

    own = "or FILE.py:NAME of your own network, an object or what makes one"
    one.add_argument("model", help=f"a name of torchvision.models, one of {', '.join(public.PUBLIC)}, {own}")
    one.add_argument("on", metavar="images", help=IMAGES)
    one.add_argument("--weights", help=WEIGHTS)
    one.add_argument("--mean", type=float, nargs="+", help="of the pixels in [0, 1], a channel; names: ImageNet's")
    one.add_argument("--std", type=float, nargs="+", help="likewise")
    one.add_argument("--size", type=int, help="pixels a side to which files are resized (default: 224)")
    for name, known, default in (
        ("attributions", ATTRIBUTIONS, "gradient integrated_gradients"),
        ("objectives", audit.attacks(), "all but lens"),
    ):
        told = f"of {', '.join(known)} (default: {default})"
        one.add_argument(f"--{name}", nargs="+", choices=known, metavar="NAME", help=told)
    one.add_argument("--images", type=int, help="that are attacked (default: 50)")
    one.add_argument("--steps", type=int, help="of an attack (default: 20)")
    one.add_argument("--k", type=int, help="pixels of the top-k (default: a tenth of the map)")
    one.add_argument("--eps", type=float, help="radius of the l_inf ball in 255ths (default: 8)")
    one.add_argument("--seed", type=int, help="of which images and which signs (default: 0)")
    _device(one)
    one.add_argument("--out", help="folder of report.html and report.json (default: audit-of-NETWORK-on-IMAGES)")


def _grid_options(one: argparse.ArgumentParser) -> None:
    from artlib.grids import GRIDS

    one.add_argument("grid", choices=GRIDS)
    one.add_argument("--row", action="append", help="may be repeated; default: all; a wrong one is told the list")
    _run_options(one, protocol=False)


def _estimate_options(one: argparse.ArgumentParser) -> None:
    from artlib.trainings import TRAININGS

    one.add_argument("--training", action="append", choices=TRAININGS, help="may be repeated; default: Table 1's")
    _run_options(one, seed=False)


def _download_options(one: argparse.ArgumentParser) -> None:
    from artlib.data import SETS

    one.add_argument("dataset", choices=[*SETS, "cifar10_c"], help="cifar10_c: CIFAR-10 under corruptions, Table 3")


COMMANDS = {
    "train": Command(
        "train a model, or find it",
        train,
        _train_options,
        """  python -m artlib train                      ART on the built-in images, minutes
  python -m artlib train --preset cpu --dataset cifar10 --training natural
The model lies in data/models (or ARTLIB_MODELS). A training that was stopped goes on.""",
    ),
    "judge": Command(
        "train a model, or find it, and measure it",
        train,
        _judge_options,
        """  python -m artlib judge --training natural   a row of Table 1
  python -m artlib judge --training art --measurement alignment
Numbers are percent, means over images: IN is the share of a map's top-k pixels that stay so under attack, K its
rank correlation.""",
    ),
    "audit": Command(
        "audit the explanations of any network: accuracy, IN, K, LENS under attack; a report",
        run_audit,
        _audit_options,
        """  python -m artlib audit squeezenet1_1 photographs
  python -m artlib audit resnet2b_adv cifar10 --attributions gradient --images 20
  python -m artlib audit mine.py:Net pictures --size 64 --mean 0.5 0.5 0.5 --std 0.2 0.2 0.2
  python -m artlib audit resnet18 pictures --weights mine.pt --steps 5 --images 5
A folder needs no classes: then what the network predicts is explained.
Files are squeezed to --size x --size pixels; torchvision's usual crop of the centre is not taken.
First a line says how long it will take; an audit that was stopped goes on; --out has the report. The fields and
metrics of report.json are described in artlib.audit.SCHEMA, a JSON Schema.""",
    ),
    "grid": Command(
        "train and measure the rows of a grid of trainings, and write their table",
        grid,
        _grid_options,
        """  python -m artlib grid factorial --preset cpu --dataset cifar10
  python -m artlib grid factorial --row "art held pixels 1.5" --row "art running pixels 1.5"
Rows that were made before are found.""",
    ),
    "estimate": Command(
        "what a preset costs on this machine",
        estimate,
        _estimate_options,
        "  python -m artlib estimate --preset cpu --dataset cifar10 --training art",
    ),
    "download": Command(
        "fetch a data set, or find its files", download, _download_options, "  python -m artlib download fashion_mnist"
    ),
    "list": Command(
        "the names that other commands and notebooks take",
        show,
        examples="  python -m artlib list\nA public network is what audit takes, a data set what --dataset takes.",
    ),
    "status": Command(
        "what is recorded and stored, what of it is stale, and why",
        status,
        examples="""  python -m artlib status   models in data/models, or where ARTLIB_MODELS says
Of a model that is stale the line says what has changed since it was made.""",
    ),
}


if __name__ == "__main__":
    main()
