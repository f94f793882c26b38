"""Steps through notebooks in JupyterLab, in a headless Chromium: `python workflow/step.py [NAME ...]`.

Every cell is run from the browser; an error, a word on stderr, a cell that did not run and a figure that is not drawn
are faults. Screenshots of what each notebook looks like at its last figure go to data/runs/stepping/. It needs
Chromium on the PATH, which nothing else here does.
"""

import argparse
import contextlib
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parents[1]
SHOTS = ROOT / "data" / "runs" / "stepping"
PANEL = "[...jupyterapp.shell.widgets('main')].find(w => w.sessionContext)"
# Runs cell i and tells its faults; an image counts when the browser has drawn it.
RUN = """(async () => {
  const panel = %(panel)s, nb = panel.content, cell = nb.widgets[%(i)d];
  jupyterapp.shell.activateById(panel.id);
  nb.activeCellIndex = %(i)d;
  await jupyterapp.commands.execute('notebook:run-cell');
  if (cell.model.type !== 'code') return [];
  await new Promise(later => setTimeout(later, 200));
  const outputs = cell.model.outputs.toJSON(), faults = [];
  if (!cell.model.executionCount) faults.push('did not run');
  for (const o of outputs) {
    if (o.output_type === 'error') faults.push(o.ename + ': ' + o.evalue);
    if (o.name === 'stderr') faults.push('stderr: ' + [].concat(o.text).join('').slice(0, 200));
  }
  const images = [...cell.node.querySelectorAll('.jp-OutputArea-output img')];
  const wanted = outputs.filter(o => o.data && o.data['image/png']).length;
  const drawn = images.filter(i => i.complete && i.naturalWidth).length;
  if (drawn < Math.max(wanted, images.length)) faults.push(`${drawn} of ${wanted} figures drawn`);
  return faults;
})()"""
LAST_FIGURE = f"""(async () => {{
  const nb = {PANEL}.content;
  const shown = c => c.model.type === 'code' && c.model.outputs.toJSON().some(o => o.data && o.data['image/png']);
  const last = nb.widgets.map(shown).lastIndexOf(true);
  await nb.scrollToItem(Math.max(0, last), 'start');
}})()"""


def chromium() -> str | None:
    """The browser, None where there is none."""
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Browser:
    """A page of a headless Chromium, driven by its DevTools protocol."""

    def __init__(self, port: int):
        import websocket  # comes with Jupyter

        request = urllib.request.Request(f"http://127.0.0.1:{port}/json/new?about:blank", method="PUT")
        page = json.load(urllib.request.urlopen(request, timeout=60))
        self.socket = websocket.create_connection(page["webSocketDebuggerUrl"], suppress_origin=True, timeout=600)
        self.asked = 0

    def ask(self, method: str, **params):
        """What the browser answers to a command of the protocol. Raises RuntimeError for a refusal."""
        self.asked += 1
        self.socket.send(json.dumps({"id": self.asked, "method": method, "params": params}))
        while (answer := json.loads(self.socket.recv())).get("id") != self.asked:
            pass  # events
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']['message']}")
        return answer["result"]

    def js(self, expression: str):
        """The value of an expression, awaited; None where it throws."""
        return self.ask("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)["result"].get(
            "value"
        )

    def wait(self, condition: str, *, seconds: float) -> None:
        """Until the expression is true. Raises TimeoutError."""
        end = time.monotonic() + seconds
        while not self.js(condition):
            if time.monotonic() > end:
                raise TimeoutError(f"{condition} was not true within {seconds:g} s")
            time.sleep(0.5)

    def screenshot(self, path: Path) -> None:
        """The window as a PNG."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b64decode(self.ask("Page.captureScreenshot")["data"]))


@contextlib.contextmanager
def browser(size: tuple[int, int] = (1300, 1000)) -> Iterator[Browser]:
    """A browser that ends with the block. Raises FileNotFoundError where there is no Chromium."""
    if chromium() is None:
        raise FileNotFoundError("stepping through notebooks needs Chromium on the PATH")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home, open(os.devnull, "w") as nowhere:
        options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0"]
        command = [chromium(), *options, f"--user-data-dir={home}", f"--window-size={size[0]},{size[1]}"]
        process = subprocess.Popen(command, stdout=nowhere, stderr=nowhere)
        try:
            port = Path(home) / "DevToolsActivePort"
            end = time.monotonic() + 120
            while not (port.exists() and port.read_text().strip()) and time.monotonic() < end:
                time.sleep(0.2)
            page = Browser(int(port.read_text().split()[0]))
            with contextlib.closing(page.socket):
                yield page
        finally:
            process.terminate()
            process.wait()


@contextlib.contextmanager
def lab(folder: Path) -> Iterator[str]:
    """JupyterLab on a folder, with models and figures of its own; its address, with `%s` for a notebook's name."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token = secrets.token_hex(16)
    own = {"ARTLIB_MODELS": str(folder / "models"), "ARTLIB_FIGURES": str(folder / "figures")}
    environment = (
        os.environ | own | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "JUPYTER_CONFIG_DIR": str(folder)}
    )
    options = ["--no-browser", "--allow-root", f"--port={port}", f"--ServerApp.root_dir={folder}"]
    options += [f"--IdentityProvider.token={token}", "--LabApp.expose_app_in_browser=True"]
    command = [sys.executable, "-m", "jupyterlab", *options]
    with (folder / "lab.log").open("w") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        try:
            end = time.monotonic() + 120
            while time.monotonic() < end:
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                    break
                time.sleep(0.5)
            yield f"http://127.0.0.1:{port}/lab/workspaces/%s/tree/%s?reset&token={token}"
        finally:
            process.terminate()
            process.wait()


def step(page: Browser, address: str, name: str, *, shots: Path = SHOTS) -> list[str]:
    """The faults of one notebook, run cell by cell; none is an empty list."""
    page.ask("Emulation.setFocusEmulationEnabled", enabled=True)
    page.ask("Page.navigate", url=address % (name, f"{name}.ipynb"))
    page.wait(f"!!window.jupyterapp && {PANEL}?.context?.isReady", seconds=120)
    page.wait(f"{PANEL}.sessionContext.session?.kernel?.status === 'idle'", seconds=120)
    faults = []
    for i in range(page.js(f"{PANEL}.content.widgets.length")):
        found = page.js(RUN % {"panel": PANEL, "i": i})
        faults += [f"cell {i}: {fault}" for fault in (["could not be asked"] if found is None else found)]
    page.js(LAST_FIGURE)
    time.sleep(1)
    page.screenshot(shots / f"{name}.png")
    page.js(f"{PANEL}.sessionContext.shutdown()")
    return faults


def copies(names: list[str], folder: Path, given: list[str]) -> None:
    """Notebooks without their outputs, and with some parameters assigned anew, such as preset='quick'."""
    for name in names:
        notebook = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)
        for cell in notebook.cells:
            if "parameters" in cell.metadata.get("tags", []):
                cell.source += "".join(f"\n{assignment}" for assignment in given)
            if cell.cell_type == "code":
                cell.outputs, cell.execution_count = [], None
        nbformat.write(notebook, folder / f"{name}.ipynb")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    known = sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))
    parser.add_argument("names", nargs="*", help="notebooks, by how their names begin: 43; all unless told")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a parameter, as in Python")
    arguments = parser.parse_args()
    names = [name for name in known if name.startswith(tuple(arguments.names) or "")]
    if lost := [start for start in arguments.names if not any(name.startswith(start) for name in names)]:
        parser.error(f"no notebook begins with {lost[0]!r}; there are {', '.join(known)}")
    bad = 0
    with tempfile.TemporaryDirectory() as folder, browser() as page:
        copies(names, Path(folder), arguments.set)
        with lab(Path(folder)) as address:
            for name in names:
                started = time.monotonic()
                try:
                    faults = step(page, address, name)
                except (TimeoutError, RuntimeError) as error:
                    faults = [str(error)]
                bad += bool(faults)
                print(f"{name}: {'; '.join(faults) or 'fine'} ({time.monotonic() - started:.0f} s)", flush=True)
    sys.exit(f"{bad} of {len(names)} notebooks with faults" if bad else 0)


if __name__ == "__main__":
    main()
