"""Decks in Chromium: every slide fits 1280×720, nothing is asked from elsewhere, every picture is described."""

from pathlib import Path

import pytest

pytestmark = pytest.mark.browser
# What of the slide that is shown lies outside of the screen; a slide that is too high scrolls.
OUTSIDE = """() => {
  const slide = Reveal.getCurrentSlide(), found = [];
  if (slide.scrollWidth > slide.clientWidth + 1) found.push("wide");
  for (const one of slide.querySelectorAll("*")) {
    const box = one.getBoundingClientRect();
    if (one.closest("aside, math, pre, .output_subarea *") || !box.width) continue;  // a wide table scrolls in its area
    if (box.right > 1281 || box.left < -1) found.push(one.outerHTML);
  }
  const box = slide.getBoundingClientRect();
  if (box.bottom > 721 || box.right > 1281 || box.top < -1) found.push("slide");
  return found.map(text => text.slice(0, 100));
}"""
SCROLLS = "() => { const slide = Reveal.getCurrentSlide(); return slide.scrollHeight > slide.clientHeight + 1; }"


def test_every_slide_fits_and_nothing_is_asked_from_elsewhere(site: Path, watched) -> None:
    decks = sorted((site / "slides").glob("*.html"))
    assert decks
    outside, scrolling, shown = [], [], 0
    for deck in decks:
        watched.page.goto(deck.as_uri())
        watched.page.wait_for_function("Reveal.isReady()")
        count = watched.page.evaluate("Reveal.getTotalSlides()")
        for place in range(count):
            outside += [f"{deck.stem} {place}: {what}" for what in watched.page.evaluate(OUTSIDE)]
            scrolling += [f"{deck.stem} {place}"] if watched.page.evaluate(SCROLLS) else []
            watched.page.evaluate("Reveal.next()")
        assert watched.page.evaluate("Reveal.isLastSlide()"), "the keys lead through the whole deck"
        shown += count
    assert outside == []
    assert watched.faults == []
    assert len(scrolling) <= 0.02 * shown, scrolling  # divided, not scrolled; a long table may


def test_pictures_are_described_and_an_answer_is_not_beside_its_prediction(site: Path, watched) -> None:
    for deck in sorted((site / "slides").glob("*.html")):
        watched.page.goto(deck.as_uri())
        bare = "[...document.querySelectorAll('img')].filter(one => !one.alt.trim()).length"
        assert watched.page.evaluate(bare) == 0, deck.stem
        beside = "[...document.querySelectorAll('section.prediction')].filter(one => one.querySelector('.output, pre')"
        assert watched.page.evaluate(f"{beside} && !one.querySelector('aside .output, aside pre')).length") == 0
        assert watched.page.locator("section.prediction").count() >= 1, deck.stem
        assert watched.page.locator("aside.notes").count() >= 10, deck.stem
