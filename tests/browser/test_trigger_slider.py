"""Lesson 00's slider, moved in a real browser: `make browser-test`."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from btlib.paths import notebooks

pytestmark = pytest.mark.browser
# BTLIB_BROWSER_NOTEBOOKS names another folder, to try a notebook in the making.
LESSONS = Path(os.environ.get("BTLIB_BROWSER_NOTEBOOKS", notebooks()))
TOKEN = "lesson"
START_S = 60
RUN_S = 300
# The whole notebook is laid out at once, and nothing asks or fetches news.
SETTINGS = {
    "notebook-extension/tracker": {"windowingMode": "none"},
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
}


@pytest.fixture
def server(tmp_path) -> Iterator[str]:
    """The address of a JupyterLab on a copy of the lessons."""
    lessons = tmp_path / "notebooks"
    shutil.copytree(LESSONS, lessons, ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
    for name, values in SETTINGS.items():
        path = tmp_path / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1",
        f"--ServerApp.port={port}", "--ServerApp.port_retries=0", f"--IdentityProvider.token={TOKEN}",
        f"--ServerApp.root_dir={lessons}",
    ]  # fmt: skip
    places = {
        "JUPYTERLAB_SETTINGS_DIR": str(tmp_path / "settings"),
        "JUPYTER_RUNTIME_DIR": str(tmp_path / "runtime"),
    }
    address = f"http://127.0.0.1:{port}"
    with (tmp_path / "server.log").open("w") as log:
        process = subprocess.Popen(command, env=os.environ | places, stdout=log, stderr=subprocess.STDOUT)
        try:
            _wait_for(f"{address}/api/status?token={TOKEN}", tmp_path / "server.log")
            yield address
        finally:
            process.terminate()
            process.wait(timeout=30)


def _wait_for(address: str, log: Path) -> None:
    """Return when the server answers; fail with its log when it does not."""
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        try:
            urllib.request.urlopen(address, timeout=5)
        except OSError:
            time.sleep(0.3)
        else:
            return
    pytest.fail(f"JupyterLab did not start within {START_S} s:\n{log.read_text()}")


def test_moving_the_slider_changes_the_picture(server, browser, tmp_path):
    page = browser.new_page(viewport={"width": 1400, "height": 1000})  # as tall as a lesson likes
    lesson = next(LESSONS.glob("00_*.ipynb"))
    page.goto(f"{server}/lab/tree/{lesson.name}?token={TOKEN}")
    notebook = page.locator(".jp-NotebookPanel:visible")
    expect(notebook.locator(".jp-Cell").first).to_be_visible(timeout=START_S * 1000)
    expect(notebook.get_by_text("Python 3", exact=False).first).to_be_visible(timeout=START_S * 1000)

    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()

    output = (
        notebook.locator(".jp-OutputArea").filter(has=page.locator(".widget-slider")).filter(has_text="strength").last
    )
    slider = output.locator(".widget-slider").filter(has_text="strength").first
    picture = output.locator("img").first
    expect(slider).to_be_visible(timeout=RUN_S * 1000)
    expect(picture).to_be_visible(timeout=RUN_S * 1000)
    expect(notebook.locator(".jp-mod-error")).to_have_count(0)

    handle = slider.locator("[role=slider], .noUi-handle").first
    handle.scroll_into_view_if_needed()
    handle.press("Home")
    page.wait_for_timeout(2000)
    weakest = pixels(picture)
    handle.press("End")
    changed = changes(picture, weakest)
    page.screenshot(path=tmp_path / "after.png")
    assert changed, f"the picture stayed as it was; see {tmp_path / 'after.png'}"


def changes(picture, before: str, seconds: float = 20) -> bool:
    """Whether the picture differs from `before` within this time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if pixels(picture) != before:
            return True
        time.sleep(0.2)
    return False


def pixels(picture) -> str:
    """What an <img> shows, whatever its address is."""
    return picture.evaluate(
        """async image => {
            await image.decode();
            const canvas = document.createElement("canvas");
            [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
            canvas.getContext("2d").drawImage(image, 0, 0);
            return canvas.toDataURL();
        }"""
    )
