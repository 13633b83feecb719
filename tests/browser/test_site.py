"""The site in Chromium: nothing is asked from elsewhere, everybody can read it, it fits a phone."""

from pathlib import Path
from urllib.parse import unquote, urldefrag

import pytest
from playwright.sync_api import Page

pytestmark = pytest.mark.browser
SERIOUS = ("serious", "critical")
LOCAL_LINKS = "[...document.querySelectorAll('a[href]')].map(a => a.href).filter(href => href.startsWith('file:'))"


def pages(site: Path) -> list[Path]:
    """All but the slides, which have tests of their own."""
    found = [page for page in sorted(site.rglob("*.html")) if page.parent.name not in ("slides", "_static")]
    assert site / "index.html" in found
    assert any(page.parent.name == "notebooks" for page in found)
    return found


def test_every_page_opens_in_silence_and_every_link_leads_somewhere(site: Path, watched) -> None:
    targets: set[str] = set()
    anchors: dict[str, set[str]] = {}
    for page in pages(site):
        watched.page.goto(page.as_uri())
        targets |= set(watched.page.evaluate(LOCAL_LINKS))
        ids = watched.page.evaluate("[...document.querySelectorAll('[id]')].map(one => one.id)")
        anchors[page.as_uri()] = set(ids)
        assert len(ids) == len(anchors[page.as_uri()]), page
    assert watched.faults == []
    split = [urldefrag(target) for target in targets]
    lost = [link for link in split if not Path(unquote(link.url.removeprefix("file://"))).exists()]
    lost += [link for link in split if link.fragment and unquote(link.fragment) not in anchors[link.url]]
    assert lost == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(site: Path, browser, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="pip install axe-playwright-python").Axe()
    page = browser.new_page(
        viewport={"width": 1280, "height": 720}, color_scheme=scheme, reduced_motion="reduce"
    )  # what is unfolded fades in, and is measured as it stays
    found = []
    every = pages(site)
    lessons = [path for path in every if path.parent.name == "notebooks"]
    others = [site / name for name in ("index.html", "timings.html", "docs/glossary.html", "api/detection.html")]
    for path in [path for path in others if path in every] + (lessons if scheme == "light" else lessons[:1]):
        page.goto(path.as_uri())
        page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
        violations = axe.run(page).response["violations"]
        found += [
            f"{path.name}: {one['id']}: {len(one['nodes'])} times, first {one['nodes'][0]['html'][:120]}"
            for one in violations if one["impact"] in SERIOUS
        ]  # fmt: skip
    page.close()
    assert found == []


def test_a_phone_shows_every_page_without_moving_it_sideways(site: Path, browser) -> None:
    page = browser.new_page(viewport={"width": 390, "height": 844})
    wide = []
    for path in pages(site):
        page.goto(path.as_uri())
        if (width := page.evaluate("document.documentElement.scrollWidth")) > 390:
            wide.append(f"{path.name}: {width}")
    page.close()
    assert wide == []


def test_a_word_is_found_and_the_way_leads_on(site: Path, watched) -> None:
    page: Page = watched.page
    page.goto((site / "search.html").as_uri() + "?q=trigger")
    page.locator("#search-results li a").first.wait_for()
    assert page.locator("#search-results li").count() > 1
    first = sorted((site / "notebooks").glob("*.html"))[0]
    page.goto(first.as_uri())
    assert page.locator("footer a.next-page, .related-pages a").count() >= 1
    assert page.locator("details.above-input:not([open])").count() > 1  # setup and checks are folded
    assert page.locator("details.above-input[open]").count() == 0
    assert watched.faults == []
