"""Every lesson in JupyterLab, in a real browser of 1280×720: `make browser-test`.

In light colours with the mouse, in dark ones with the keyboard alone, from the first key to the last control.
"""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from btlib.paths import notebooks

pytestmark = pytest.mark.browser
# BTLIB_BROWSER_NOTEBOOKS names another folder, to try a notebook in the making.
LESSONS = Path(os.environ.get("BTLIB_BROWSER_NOTEBOOKS", notebooks()))
TOKEN = "lesson"
START_S = 120
RUN_S = 1800
Move = Callable[[], None]
CONTROLS = ".widget-slider, .widget-dropdown, button.jupyter-button"
# The whole notebook is laid out at once, and nothing asks or fetches news.
SETTINGS = {
    "notebook-extension/tracker": {"windowingMode": "none"},
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
}
# What a person sees of a widget: its pictures, and its words but for the controls' own numbers.
SEEN = """widget => [
    [...widget.querySelectorAll("img")].filter(one => one.offsetParent).map(one => one.src).join(),
    [...widget.querySelectorAll(".widget-html")].map(one => one.innerText).join(),
]"""

# Every text of a lesson with its contrast. Not by axe: it takes what lies below the window's edge for hidden, and in
# JupyterLab, whose body has no height, all of it.
CONTRASTS = """() => {
    const numbers = color => color.match(/[\\d.]+/g).map(Number);
    const over = ([r, g, b, a = 1], [R, G, B]) => [a * r + (1 - a) * R, a * g + (1 - a) * G, a * b + (1 - a) * B];
    const part = value => (value /= 255) <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
    const luminance = ([r, g, b]) => 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
    const ground = one => {
        if (!one) return [255, 255, 255];
        const color = numbers(getComputedStyle(one).backgroundColor);
        return color.length === 3 ? color : over(color, ground(one.parentElement));
    };
    const found = [];
    for (const area of document.querySelectorAll(".jp-MarkdownOutput, .jp-OutputArea-output")) {
        const texts = document.createTreeWalker(area, NodeFilter.SHOW_TEXT);
        while (texts.nextNode()) {
            const text = texts.currentNode, one = text.parentElement, style = getComputedStyle(one);
            if (!text.data.trim() || !one.checkVisibility() || one.closest("style, script, button:disabled")) continue;
            const below = ground(one), pair = [luminance(over(numbers(style.color), below)), luminance(below)];
            const size = parseFloat(style.fontSize), large = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
            const contrast = (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05);
            found.push({text: text.data.trim().slice(0, 60), contrast, needs: large ? 3 : 4.5});
        }
    }
    return found;
}"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """The address of a JupyterLab on a copy of the lessons."""
    shutil.copytree(LESSONS, tmp_path / "notebooks", ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
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
        f"--ServerApp.root_dir={tmp_path / 'notebooks'}",
    ]  # fmt: skip
    places = {
        "JUPYTERLAB_SETTINGS_DIR": str(tmp_path / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(tmp_path / "workspaces"),
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


@pytest.fixture
def lab(server: str, browser: Browser, tmp_path: Path) -> Iterator[Page]:
    """A page that is watched: an error in its console fails the test. Its last sight is kept."""
    page, faults = browser.new_page(viewport={"width": 1280, "height": 720}), list[str]()
    page.on("console", lambda one: faults.append(one.text) if one.type == "error" else None)
    page.on("pageerror", lambda one: faults.append(str(one)))
    yield page
    page.screenshot(path=tmp_path / "last.png")
    page.close()
    assert faults == []


def open_lesson(page: Page, server: str, lesson: Path) -> Locator:
    """The notebook, with its kernel."""
    page.goto(f"{server}/lab/tree/{lesson.name}?token={TOKEN}")
    notebook = page.locator(".jp-NotebookPanel:visible")
    expect(notebook.locator(".jp-Cell").first).to_be_visible(timeout=START_S * 1000)
    expect(notebook.locator(".jp-Toolbar-kernelName")).to_have_text("Python 3 (ipykernel)", timeout=START_S * 1000)
    expect(page.locator("#jp-main-statusbar").get_by_text("| Idle")).to_be_visible(timeout=START_S * 1000)
    return notebook


def command(page: Page, words: str) -> None:
    """Choose a command in the palette, with the keyboard."""
    page.keyboard.press("Control+Shift+C")
    palette = page.locator(".lm-CommandPalette-input:visible")
    palette.wait_for()
    page.keyboard.type(words)
    chosen = page.locator(".lm-CommandPalette-item.lm-mod-active:visible .lm-CommandPalette-itemLabel")
    expect(page.locator(".lm-CommandPalette-itemLabel:visible").filter(has_text=words).first).to_be_visible()
    page.wait_for_timeout(500)  # the list settles
    for _ in range(10):
        if chosen.inner_text() == words:
            break
        page.keyboard.press("ArrowDown")
    expect(chosen).to_have_text(words)
    page.keyboard.press("Enter")
    expect(palette).to_have_count(0)


def run_to_the_end(page: Page, notebook: Locator) -> None:
    """Run all cells; none may fail."""
    command(page, "Run All Cells")
    waiting = notebook.locator(".jp-InputPrompt").filter(has_text="*")
    expect(waiting).not_to_have_count(0, timeout=START_S * 1000)
    expect(waiting).to_have_count(0, timeout=RUN_S * 1000)
    failed = notebook.locator(".jp-mod-error, [data-mime-type='application/vnd.jupyter.error']")
    expect(failed).to_have_count(0)
    expect(notebook.locator(".jp-InputPrompt").filter(has_text=re.compile(r"\[\d+\]"))).not_to_have_count(0)


def widgets_of(notebook: Locator) -> list[Locator]:
    """Each group of controls with what it shows."""
    groups = notebook.locator(".widget-vbox").filter(has=notebook.page.locator(CONTROLS))
    return groups.all()


def with_the_mouse(control: Locator) -> Move | None:
    """Move a control to another place; what is returned moves a slider back."""
    kind = control.get_attribute("class") or ""
    if "widget-dropdown" in kind:
        options = control.locator("select")
        first = options.input_value()
        values = options.locator("option").evaluate_all("all => all.map(one => one.value)")
        options.select_option(next(value for value in reversed(values) if value != first))
        return None
    if "widget-slider" not in kind:
        control.click()
        return None
    track = control.locator(".noUi-base")
    box, at_the_end = track.bounding_box(), is_at_the_end(control)
    assert box is not None
    left, right = {"x": 1, "y": box["height"] / 2}, {"x": box["width"] - 1, "y": box["height"] / 2}
    track.click(position=left if at_the_end else right, force=True)  # type: ignore[arg-type]
    return lambda: track.click(position=right if at_the_end else left, force=True)  # type: ignore[arg-type]


def with_the_keyboard(control: Locator) -> Move | None:
    """The same with keys; Tab has to reach the control."""
    page, kind = control.page, control.get_attribute("class") or ""
    reach(control)
    if "widget-dropdown" in kind:
        page.keyboard.press("End" if control.locator("select").evaluate("one => one.selectedIndex") == 0 else "Home")
        return None
    if "widget-slider" not in kind:
        page.keyboard.press("Enter")
        return None
    there, back = ("Home", "End") if is_at_the_end(control) else ("End", "Home")
    page.keyboard.press(there)
    return lambda: page.keyboard.press(back)


def reach(control: Locator) -> None:
    """Press Tab until the focus is on a control, from the cell that it belongs to."""
    inside = "one => one.contains(document.activeElement) || one === document.activeElement"
    cell = control.locator("xpath=ancestor::*[contains(@class, 'jp-CodeCell')][1]")
    if not cell.evaluate(inside):
        cell.evaluate("one => one.focus()")
    for _ in range(40):
        if control.evaluate(inside):
            return
        control.page.keyboard.press("Tab")
    raise AssertionError(f"Tab does not reach {control.inner_text()!r}")


def is_at_the_end(slider: Locator) -> bool:
    handle = slider.locator(".noUi-handle")
    return handle.get_attribute("aria-valuenow") == handle.get_attribute("aria-valuemax")


def move_every_control(notebook: Locator, move: Callable[[Locator], Move | None]) -> int:
    """How many there are. Each must change what is seen; of each group, picture and words must have changed."""
    moved = 0
    for widget in widgets_of(notebook):
        seen = [widget.evaluate(SEEN)]
        for control in widget.locator(CONTROLS).all():
            control.scroll_into_view_if_needed()
            back = move(control)
            seen.append(another_sight(widget, seen[-1]))
            if back is not None:
                back()
                seen.append(another_sight(widget, seen[-1]))
            moved += 1
        pictures, words = (set(column) for column in zip(*seen, strict=True))
        assert len(pictures) > 1, words
        assert len(words) > 1, words
    return moved


def another_sight(widget: Locator, before: list[str], seconds: float = 120) -> list[str]:
    """What is seen when it is no longer what was; a measurement that goes on is waited for."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        now: list[str] = widget.evaluate(SEEN)
        if now != before and "measuring" not in now[1]:
            return now
        time.sleep(0.2)
    raise AssertionError(f"nothing changed: {before[1]}")


def assert_all_can_be_read(page: Page) -> None:
    """Text and outputs of the lesson have a contrast of 4.5:1, or 3:1 where they are large (WCAG 1.4.3)."""
    texts = page.evaluate(CONTRASTS)
    assert len(texts) > 50
    assert [one for one in texts if not one["contrast"] >= one["needs"]] == []


@pytest.mark.parametrize("lesson", sorted(LESSONS.glob("*.ipynb")), ids=lambda path: path.stem)
def test_a_lesson_in_light_with_the_mouse_and_in_the_dark_by_keys(server: str, lab: Page, lesson: Path) -> None:
    notebook = open_lesson(lab, server, lesson)
    run_to_the_end(lab, notebook)
    moved = move_every_control(notebook, with_the_mouse)
    assert (moved > 0) == ("widgets." in lesson.read_text(encoding="utf-8"))
    assert_all_can_be_read(lab)
    command(lab, "Use Theme: JupyterLab Dark")
    expect(lab.locator("body[data-jp-theme-light=false]")).to_have_count(1)
    assert move_every_control(notebook, with_the_keyboard) == moved
    assert_all_can_be_read(lab)
