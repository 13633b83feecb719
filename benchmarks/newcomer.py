"""How long a newcomer waits: from `make lab` in a fresh clone to the first slider that has moved a picture.

    python benchmarks/newcomer.py          # minutes; needs Chromium and a network; writes results/

A clone of this checkout's commit, an empty home folder (so no package comes from a cache), the README's first command;
then, in headless Chromium, what it says: Run, Run All Cells, move the slider. The clone is deleted in the end.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from playwright.sync_api import Page, expect, sync_playwright

from btlib.paths import CHECKOUT
from btlib.results import environment, save

CHROMIUM = os.environ.get("BTLIB_CHROMIUM", "/usr/bin/chromium")
PATIENCE_S = 1800


class Clock:
    """What was reached after how many seconds."""

    def __init__(self) -> None:
        self.began, self.reached = time.monotonic(), dict[str, float]()

    def __call__(self, what: str) -> None:
        self.reached[what] = round(time.monotonic() - self.began, 1)
        sys.stdout.write(f"{self.reached[what]:7.1f} s  {what}\n")
        sys.stdout.flush()


def surroundings(folder: Path) -> dict[str, str]:
    """As on a new account: nothing of this checkout, no caches; the "browser" writes down what it should open."""
    browser = folder / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > {folder}/address\n')
    browser.chmod(0o755)
    (folder / "jupyter_server_config.json").write_text(json.dumps({"ServerApp": {"allow_root": True}}))
    ours = ("BTLIB_", "PYTHON", "OMP_", "TQDM_", "VIRTUAL_ENV", "MAKE")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return kept | {"HOME": str(folder), "BROWSER": f"{browser} %s", "JUPYTER_CONFIG_DIR": str(folder)}


def address_asked(lab: subprocess.Popen[bytes], folder: Path, clock: Clock) -> str:
    """What `make lab` wants opened, when it does."""
    address, ready = folder / "address", folder / "clone" / ".venv" / ".ready"
    while not address.exists() or not address.read_text().strip():
        if lab.poll() is not None:
            sys.exit(f"make lab ended:\n{(folder / 'log').read_text()[-2000:]}")
        if ready.exists() and "packages are there" not in clock.reached:
            clock("packages are there")
        time.sleep(0.2)
    clock("JupyterLab asks for a browser")
    return address.read_text().strip()


def move_the_first_slider(page: Page, address: str, clock: Clock) -> None:
    """As the README says; the picture beside the slider must change."""
    page.set_default_timeout(PATIENCE_S * 1000)
    expect.set_options(timeout=PATIENCE_S * 1000)
    page.goto(address)
    notebook = page.locator(".jp-NotebookPanel:visible")
    expect(notebook.get_by_text("Python 3", exact=False).first).to_be_visible()
    clock("lesson 00 is open")
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    page.mouse.move(640, 400)
    slider = notebook.locator(".widget-slider").first
    while not slider.is_visible():  # cells are laid out where one looks
        page.mouse.wheel(0, 400)
        page.wait_for_timeout(200)
    output = notebook.locator(".jp-OutputArea").filter(has=page.locator(".widget-slider")).first
    picture = output.locator("img").first
    before = picture.get_attribute("src")
    handle = slider.locator(".noUi-handle").first
    handle.press("Home")
    handle.press("ArrowRight")
    expect(picture).not_to_have_attribute("src", before or "")
    clock("the first slider has moved the picture")


def main() -> None:
    """Measure, keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default="results/benchmark-newcomer.json")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="newcomer-", ignore_cleanup_errors=True) as place:
        folder = Path(place)
        subprocess.run(["git", "clone", "--quiet", str(CHECKOUT), str(folder / "clone")], check=True)
        load, clock = os.getloadavg()[0], Clock()
        with (folder / "log").open("w") as log:
            lab = subprocess.Popen(["make", "lab"], cwd=folder / "clone", env=surroundings(folder), stdout=log,
                                   stderr=log, start_new_session=True)  # fmt: skip
        try:
            address = address_asked(lab, folder, clock)
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
                move_the_first_slider(browser.new_page(viewport={"width": 1280, "height": 720}), address, clock)
        finally:
            os.killpg(lab.pid, signal.SIGTERM)
            lab.wait(timeout=60)
    note = f"cold caches; load before it began {load:.1f} on {os.cpu_count()} cores"
    note += ": other work ran" if load > 0.5 else ""
    save(args.out, {"seconds since make lab": clock.reached, "note": note, "environment": environment()})


if __name__ == "__main__":
    main()
