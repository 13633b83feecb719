"""Chromium, and the site of the lessons that have run."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from btlib.paths import CHECKOUT

CHROMIUM = Path(os.environ.get("BTLIB_CHROMIUM", "/usr/bin/chromium"))
ARGUMENTS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Headless Chromium."""
    if not CHROMIUM.exists():
        pytest.skip(f"{CHROMIUM} is not installed; on Debian and Ubuntu: apt install chromium")
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield launched
        launched.close()


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site of what `make course` left in build/course; of lesson 00 alone where that is nothing.

    BTLIB_SITE names one that is made already.
    """
    if made := os.environ.get("BTLIB_SITE"):
        return Path(made)
    from btlib.cli.course import run_missing
    from btlib.cli.site_build import build

    course, out = CHECKOUT / "build" / "course", tmp_path_factory.mktemp("site") / "site"
    if not list(course.glob("[0-9][0-9]_*.ipynb")):
        run_missing(CHECKOUT / "notebooks", course, "00")
    return build(CHECKOUT, CHECKOUT / "notebooks", course, out).parent


@dataclass
class Watched:
    """A page, and what it did that it must not: asked a server, or complained."""

    page: Page
    faults: list[str] = field(default_factory=list)


@pytest.fixture
def watched(browser: Browser) -> Iterator[Watched]:
    """A page of 1280×720 that is watched."""
    watched = Watched(browser.new_page(viewport={"width": 1280, "height": 720}))
    told = watched.faults.append
    watched.page.on("request", lambda one: one.url.startswith(("file:", "data:", "blob:", "about:")) or told(one.url))
    watched.page.on("console", lambda one: told(f"{one.type}: {one.text}"))
    watched.page.on("pageerror", lambda one: told(str(one)))
    yield watched
    watched.page.close()
