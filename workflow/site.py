"""Writes site/: the stored notebooks as pages, the reference from the docstrings, an index; `make site`.

Every link between the pages is looked up; one that leads nowhere ends the run.
"""

import html
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat

from artlib.paths import ROOT

SITE = ROOT / "site"
STYLE = """body { font: 16px/1.6 system-ui, sans-serif; color: #222; max-width: 52rem; margin: 3rem auto; }
li { margin: .3rem 0; } small { color: #666; } a { color: #0072B2; }"""


def build(site: Path = SITE) -> None:
    """The whole site, made anew."""
    shutil.rmtree(site, ignore_errors=True)
    notebooks = sorted((ROOT / "notebooks").glob("*.ipynb"))
    run = [sys.executable, "-m"]
    convert = ["nbconvert", "--to", "html", "--log-level", "ERROR", "--output-dir", str(site / "notebooks")]
    subprocess.run([*run, "jupyter", *convert, *map(str, notebooks)], check=True, cwd=ROOT)
    subprocess.run([*run, "pdoc", "artlib", "-o", str(site / "reference"), "--no-show-source"], check=True, cwd=ROOT)
    (site / "index.html").write_text(index(notebooks))
    if broken := sorted(broken_links(site)):
        sys.exit("links that lead nowhere: " + ", ".join(f"{page} -> {link}" for page, link in broken))


def index(notebooks: list[Path]) -> str:
    """The first page: every notebook by its title, and the reference."""
    items = "\n".join(f'<li><a href="notebooks/{p.stem}.html">{html.escape(_title(p))}</a></li>' for p in notebooks)
    readme = (ROOT / "README.md").read_text()
    lead = html.escape(re.search(r"\n\n([^\n#<!|\[].+?)\n\n", readme, re.DOTALL)[1])
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>artlib</title>'
    head += f"<style>{STYLE}</style>"
    return (
        f'<!doctype html>\n<html lang="en"><head>{head}</head><body><h1>artlib</h1><p>{lead}</p><h2>Notebooks</h2>'
        f"<p><small>Shown as stored: the recorded runs, and outputs of the smoke preset.</small></p><ul>{items}</ul>"
        f'<h2>Reference</h2><p><a href="reference/artlib.html">artlib, module by module</a></p></body></html>\n'
    )


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
            page = (Path(name).parent / target).as_posix() if target else name
            page = Path(re.sub(r"[^/]+/\.\./", "", page)).as_posix()
            if page not in pages and not (site / page).exists():
                found.add((name, link))
            elif place and page in places and place not in places[page]:
                found.add((name, link))
    return found


if __name__ == "__main__":
    build()
