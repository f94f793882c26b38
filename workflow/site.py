"""Writes site/: the stored notebooks as pages, the reference from the docstrings, an index; `make site`.

Every link between the pages is looked up; one that leads nowhere ends the run. In the reference the types of settings
stand without their ranges and fractions as fractions, and what pdoc links without making it is no link.
"""

import html
import os
import pkgutil
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat

import artlib
from artlib.paths import REFERENCE, ROOT

SITE = ROOT / "site"
STYLE = """body { font: 16px/1.6 system-ui, sans-serif; color: #222; max-width: 52rem; margin: 3rem auto; }
li { margin: .3rem 0; } small { color: #666; } a { color: #0072B2; } img { max-width: 100%; }"""
RANGED = re.compile(  # in a signature, where every token is a span
    r'(?:<span class="n">typing</span><span class="o">\.</span>)?'
    r'<span class="n">Annotated</span><span class="p">\[</span>'
    r'(<span class="nb">\w+</span>)<span class="p">,</span> <span class="n">Range</span>.*?'
    r'<span class="p">\)\](.*?</span>)'
)
GROUPS = {"Tables": "Table", "Figures": "Figure", "More": ""}  # of notebooks, by how their titles begin
PICTURE = "one-image-cifar10-paper-seed0.png"


def build(site: Path = SITE) -> None:
    """The whole site, made anew."""
    shutil.rmtree(site, ignore_errors=True)
    notebooks = sorted((ROOT / "notebooks").glob("*.ipynb"))
    run = [sys.executable, "-m"]
    convert = ["nbconvert", "--to", "html", "--log-level", "ERROR", "--output-dir", str(site / "notebooks")]
    subprocess.run([*run, "jupyter", *convert, *map(str, notebooks)], check=True, cwd=ROOT)
    quiet = [sys.executable, "-W", "ignore::UserWarning", "-m", "pdoc"]  # it walks into packages, too
    options = ["-o", str(site / "reference"), "--no-show-source"]
    subprocess.run([*quiet, *modules(), *options], check=True, cwd=ROOT)
    for page in (site / "reference").rglob("*.html"):
        page.write_text(readable(page.read_text()))
    shutil.copy(REFERENCE / PICTURE, site)
    (site / "index.html").write_text(index(notebooks))
    if broken := sorted(broken_links(site)):
        sys.exit("links that lead nowhere: " + ", ".join(f"{page} -> {link}" for page, link in broken))


def modules() -> list[str]:
    """artlib and all modules in it: left to itself pdoc leaves out what a package's `__all__` has not."""
    found = pkgutil.walk_packages(artlib.__path__, "artlib.")
    return ["artlib", *(m.name for m in found if not m.name.rpartition(".")[2].startswith("_"))]


def readable(page: str) -> str:
    """A page of the reference, with types in the place of `Annotated[type, Range(...)]`, 8/255 in that of a decimal
    fraction, and no link to a place that it has not."""
    page = RANGED.sub(r'\1<span class="p">\2', page)
    page = re.sub(r"(?:typing\.)?Annotated\[(\w+), Range\([^)]*\)\]", r"\1", page)
    page = re.sub(r"\b0\.0\d{12,}\b", _of_255, page)
    places = set(re.findall(r'\bid="([^"]+)"', page))
    return re.sub(r'<a href="#([^"]+)">(.*?)</a>', lambda m: m[0] if m[1] in places else m[2], page)


def _of_255(found: re.Match) -> str:
    levels = 255 * float(found[0])
    return f"{levels:.2f}".rstrip("0").rstrip(".") + "/255" if abs(levels - round(levels, 2)) < 1e-9 else found[0]


def index(notebooks: list[Path]) -> str:
    """The first page: what README begins with, every notebook by its title, and the reference."""
    lead = (ROOT / "README.md").read_text().partition("\nTo try it:")[0]
    lines = [_marked(part) for part in lead.split("\n\n")[1:] if part.strip()]
    titles, listed = {path: _title(path) for path in notebooks}, ""
    for group, beginning in GROUPS.items():
        own = [path for path, title in titles.items() if title.startswith(beginning)]
        items = "\n".join(f'<li><a href="notebooks/{p.stem}.html">{html.escape(titles.pop(p))}</a></li>' for p in own)
        listed += f"<h3>{group}</h3><ul>{items}</ul>" if own else ""
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>artlib</title>'
    head += f"<style>{STYLE}</style>"
    return (
        f'<!doctype html>\n<html lang="en"><head>{head}</head><body><h1>artlib</h1>{"".join(lines)}<h2>Notebooks</h2>'
        f"<p><small>Shown as stored: the recorded runs, and outputs of the smoke preset.</small></p>{listed}"
        f'<h2>Reference</h2><p><a href="reference/artlib.html">artlib</a>, module by module:</p>{_reference()}'
        "</body></html>\n"
    )


def _reference() -> str:
    """A line for every room of artlib, with its modules."""
    rooms: dict[str, list[str]] = {}
    for name in modules()[1:]:
        _, room, *rest = name.split(".")
        rooms.setdefault(room, []).append(
            f'<a href="reference/{name.replace(".", "/")}.html">{".".join(rest) or room}</a>'
        )
    lines = (f"<li>{first}{': ' if rest else ''}{', '.join(rest)}</li>" for first, *rest in rooms.values())
    return f"<ul>{''.join(lines)}</ul>"


def _marked(part: str) -> str:
    """The little of Markdown that README's beginning has, as HTML."""
    if picture := re.fullmatch(r"!\[(.*?)\]\(.*?\)", part, re.DOTALL):
        return f'<img src="{PICTURE}" alt="{html.escape(picture[1])}">'
    text = html.escape(part, quote=False)
    for mark, tag in ((r"\*\*", "b"), (r"\*", "em")):
        text = re.sub(rf"{mark}(?! )(.+?){mark}", rf"<{tag}>\1</{tag}>", text, flags=re.DOTALL)
    text = re.sub(r"\[(.*?)\]\(.*?\)", r"\1", text)  # links of README lead to files that are not in the site
    items = text.split("\n* ") if text.startswith("* ") else []
    return "<ul>" + "".join(f"<li>{i.removeprefix('* ')}</li>" for i in items) + "</ul>" if items else f"<p>{text}</p>"


def _title(notebook: Path) -> str:
    first = nbformat.read(notebook, as_version=4).cells[0].source
    return first.split("\n")[0].removeprefix("# ")


def broken_links(site: Path) -> set[tuple[str, str]]:
    """(page, link) for every link to another page or a place in one that is not there."""
    scripts = re.compile(r"<script\b.*?</script>", re.DOTALL)  # pdoc's search has a link in it that it fills in later
    pages = {path.relative_to(site).as_posix(): scripts.sub("", path.read_text()) for path in site.rglob("*.html")}
    places = {name: set(re.findall(r'\bid="([^"]+)"', text)) for name, text in pages.items()}
    found = set()
    for name, text in pages.items():
        for link in re.findall(r'<a[^>]*\bhref="([^"]+)"', text):
            target, _, place = html.unescape(link).partition("#")
            if re.match(r"[a-z]+:", target):
                continue
            page = Path(os.path.normpath(Path(name).parent / target)).as_posix() if target else name
            if page not in pages and not (site / page).exists():
                found.add((name, link))
            elif place and page in places and place not in places[page]:
                found.add((name, link))
    return found


if __name__ == "__main__":
    build()
