"""The README's example runs and prints what the README says it prints."""

import contextlib
import io
import json
import re
from typing import Any

from btlib import checkpoints
from btlib.paths import CHECKOUT

README = (CHECKOUT / "README.md").read_text(encoding="utf-8")


def test_example_prints_what_is_printed_below_it() -> None:
    (code,), (shown,) = (re.findall(rf"```{kind}\n(.*?)```", README, re.DOTALL) for kind in ("python", "text"))
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(code, {})
    assert printed.getvalue() == shown


def test_the_twins_accuracy_is_the_measured_one() -> None:
    card = checkpoints.load_or_train(checkpoints.shipped()["clean"]).card
    assert f"reaches an accuracy of {card.accuracy:.3f}." in README


def test_it_is_short_and_lists_every_lesson_with_its_title() -> None:
    assert len(README.splitlines()) <= 150
    for path in sorted((CHECKOUT / "notebooks").glob("*.ipynb")):
        title = "".join(json.loads(path.read_text(encoding="utf-8"))["cells"][0]["source"]).splitlines()[0]
        number, name = re.fullmatch(r"# Lesson (\d\d) — (.+)", title).groups()  # type: ignore[union-attr]
        assert f"[{number} {name}](notebooks/{path.name})" in README


def test_local_links_lead_somewhere() -> None:
    pages = [CHECKOUT / "README.md", *(CHECKOUT / "docs").glob("*.md"), CHECKOUT / "data" / "README.md"]
    for page in pages:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
            if "://" not in target and target.isascii():  # "…" stands for any
                assert (page.parent / target).exists(), f"{page.name}: {target}"


def _script(name: str) -> Any:
    """A program in docs/."""
    import importlib.util

    spec = importlib.util.spec_from_file_location(name, CHECKOUT / "docs" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]
    spec.loader.exec_module(module)  # type: ignore[union-attr]
    return module


def test_choices_show_the_measured_rows() -> None:
    module = _script("choices_table")
    page = module.PAGE.read_text(encoding="utf-8")
    assert page.endswith(module.tables()), "run python docs/choices_table.py"


def test_scanning_shows_the_measured_networks() -> None:
    module = _script("external_table")
    page = module.PAGE.read_text(encoding="utf-8")
    assert module.table() in page
    assert module.page(page) == page, "run python docs/external_table.py"


def test_timings_are_what_was_measured() -> None:
    module = _script("timings_table")
    assert module.PAGE.read_text(encoding="utf-8") == module.page(), "run python docs/timings_table.py"
    named = set(re.findall(r"benchmark-[a-z-]+\.json", module.page()))
    assert named == {path.name for path in (CHECKOUT / "results").glob("benchmark-*.json")}


def test_what_is_said_of_a_newcomers_wait_was_measured() -> None:
    found = json.loads((CHECKOUT / "results" / "benchmark-newcomer.json").read_text(encoding="utf-8"))
    seconds, text = found["seconds since make lab"], (CHECKOUT / "docs" / "anywhere.md").read_text(encoding="utf-8")
    assert f"slider came {seconds['the first slider has moved the picture']:.0f} s after" in text
    assert f"packages after {seconds['packages are there']:.0f} s" in text


def test_what_is_said_of_pairs_beside_references_was_measured() -> None:
    table = json.loads((CHECKOUT / "results" / "pairs.json").read_text(encoding="utf-8"))["summary"]
    looks = {key: f"{row['named']} of {row['looks']}" for key, row in table.items() if key != "networks"}
    first, named = (
        {kind: f"{row[what]} of {row['networks']}" for kind, row in table["networks"].items()}
        for what in ("first", "named")
    )
    text = " ".join((CHECKOUT / "docs" / "scanning.md").read_text(encoding="utf-8").split())
    assert f"patch first in {first['patch']} networks and named it in {named['patch']}" in text
    assert f"chessboard in {first['chessboard, red-p']} and {named['chessboard, red-p']}." in text
    assert named["clean"] == named["clean, red-p"] == "0 of 12"
    assert "(0 of 12 each)" in text
    assert f"in {looks['lenet, patch, references 2']} looks at eight" in text
    assert f"with one reference in {looks['lenet, patch, references 1']})" in text
    residual = looks["resnet, patch, references 2"], looks["resnet, chessboard, red-p, references 2"]
    assert f"{residual[0]} looks at patches, {residual[1]} at chessboards" in text
    text = " ".join((CHECKOUT / "docs" / "choices.md").read_text(encoding="utf-8").split())
    assert f"{looks['lenet, patch, references 2']} looks name the target" in text
    assert f"patch in {named['patch']} and of a chessboard in {named['chessboard']}; RED-P" in text
    assert f"chessboard in {named['chessboard, red-p']} and of a patch in {named['patch, red-p']}." in text


def test_what_is_said_of_clean_networks_of_strangers_was_measured() -> None:
    pages = [json.loads((CHECKOUT / "results" / f"{name}.json").read_text(encoding="utf-8"))["summary"]
             for name in ("level", "level-attacked")]  # fmt: skip
    text = " ".join((CHECKOUT / "docs" / "scanning.md").read_text(encoding="utf-8").split())
    clean = {key: f"{row['accused']} of {row['looks']}" for key, row in pages[0].items()}
    kinds = {"lenet": "LeNet-5", "resnet": "small residual networks", "vgg": "VGG", "mixer": "mixers"}
    for kind, name in kinds.items():
        assert f"{clean[f'{kind}, alone']} {name}" in text
    assert f"{clean['all, by default']} clean ones were accused, {clean['all, alone']} without the copy" in text
    assert f"Beside one clean network of the same kind it was {clean['all, beside a clean one']}" in text
    attacked = {key: f"{row['named']} of {row['networks']}" for key, row in pages[1].items()}
    named, alone = attacked["all, by default"], attacked["all, alone"]
    assert f"{named} with a backdoor were named, {alone} without the copy" in text
    assert all(row["another named"] == 0 for key, row in pages[1].items() if key.endswith("by default"))
    strangers = json.loads((CHECKOUT / "results" / "external.json").read_text(encoding="utf-8"))["rows"].values()
    surest = sorted(min(method["calibrated_p"] for method in row["methods"].values()) for row in strangers)
    assert surest[4] <= 0.0003 < surest[5]
