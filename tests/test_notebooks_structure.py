"""Each lesson keeps the rules of docs/CONTRIBUTING.md. A rule turns a lesson into complaints."""

import ast
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import nbformat
import pytest

import btlib
from btlib.cli.lessons import LessonError, assigned_names, estimate_minutes, read_lesson, stated_minutes
from btlib.paths import notebooks

EXERCISES = 3
# What a line about looks holds: matplotlib, names of axes, alternative text, what is put out.
LOOKS = (
    r"\b(?:plt|ax|axes\[\d\]|figure)\.|\b[xy]label\b|\balt\b|\bcaption\b|\bdisplay\(|Markdown\(|HTML\(|plots\.show\("
)
ANSWERED = r"^\s*assert\b|#.*(?<!not )\bmeasured\b"
HINT_LAYERS = 3


@dataclass(frozen=True)
class Notebook:
    """A lesson as the rules see it."""

    path: Path

    @property
    def content(self) -> nbformat.NotebookNode:
        return nbformat.read(self.path, as_version=4)

    @property
    def code(self) -> list[str]:
        return [cell.source for cell in self.content.cells if cell.cell_type == "code"]

    @property
    def text(self) -> list[str]:
        return [cell.source for cell in self.content.cells if cell.cell_type == "markdown"]


def runs_under_papermill(notebook: Notebook) -> Iterator[str]:
    """Valid, with one parameters cell that sets PROFILE and SEED."""
    try:
        read_lesson(notebook.path)
    except LessonError as error:
        yield str(error)


def follows_btlib_profile(notebook: Notebook) -> Iterator[str]:
    """The parameters cell needs nothing but btlib; without papermill PROFILE is what BTLIB_PROFILE says."""
    for cell in notebook.content.cells:
        if "parameters" in cell.metadata.get("tags", ()):
            for profile in ("fast", "full"):
                with pytest.MonkeyPatch.context() as patch:
                    patch.setenv("BTLIB_PROFILE", profile)
                    names: dict[str, object] = {"btlib": btlib}
                    try:
                        exec(cell.source, names)
                    except Exception as error:
                        yield f"the parameters cell needs more than btlib: {error!r}"
                        return
                if names.get("PROFILE") != profile:
                    yield f"BTLIB_PROFILE={profile} gives PROFILE={names.get('PROFILE')!r}"
            if "btlib" not in cell.source:
                yield "PROFILE is not read through btlib"
            if "SEED" in assigned_names(cell.source) and not assigned_names(cell.source)["SEED"].isdigit():
                yield "SEED is not a plain number"


def is_stripped(notebook: Notebook) -> Iterator[str]:
    """No outputs, no counts, no widget state."""
    for place, cell in enumerate(notebook.content.cells):
        if cell.get("outputs") or cell.get("execution_count") is not None:
            yield f"cell {place} has outputs or an execution count"
    if "widgets" in notebook.content.metadata:
        yield "widget state was saved"


def asks_for_the_kernel_python3(notebook: Notebook) -> Iterator[str]:
    """The name that every Jupyter installation knows."""
    name = notebook.content.metadata.get("kernelspec", {}).get("name")
    if name != "python3":
        yield f"kernel {name!r}"


def has_cell_ids(notebook: Notebook) -> Iterator[str]:
    """One each, as format 4.5 has them."""
    content = notebook.content
    ids = [cell.get("id") for cell in content.cells]
    if (content.nbformat, content.nbformat_minor) < (4, 5) or None in ids or len(set(ids)) != len(ids):
        yield "cell ids are missing or double"


def has_its_title(notebook: Notebook) -> Iterator[str]:
    """`# Lesson NN — …`, with the file's number, and no second title."""
    titles = re.findall(r"^# .+$", "\n".join(notebook.text), re.MULTILINE)
    if not titles or not re.match(rf"# Lesson {notebook.path.name[:2]} — \S", titles[0]) or len(titles) > 1:
        yield f"titles {titles}"


def has_its_headings(notebook: Notebook) -> Iterator[str]:
    """What a reader looks for in every lesson."""
    headings = re.findall(r"^#{2,} +(.+)$", "\n".join(notebook.text), re.MULTILINE)
    for wanted in ("Objectives", "Recap", "References"):
        if not any(heading.startswith(wanted) for heading in headings):
            yield f"no heading {wanted}"


def states_its_minutes(notebook: Notebook) -> Iterator[str]:
    """At its head, as `estimate_minutes` estimates them, within 15 % or five minutes."""
    stated, estimated = stated_minutes(notebook.content), estimate_minutes(notebook.content)
    if stated is None:
        yield "no 'about … minutes' at its start"
        return
    for name in ("core", "optional"):
        says, is_about = getattr(stated, name), getattr(estimated, name)
        if abs(says - is_about) > max(5, 0.15 * is_about):
            yield f"{name}: says {says} minutes, estimated {is_about}"


def is_folded(cell: nbformat.NotebookNode) -> bool:
    """Whether Jupyter and the pages hide the source."""
    return bool(cell.metadata.get("jupyter", {}).get("source_hidden"))


def has_cells_that_fit_a_screen(notebook: Notebook) -> Iterator[str]:
    """At most 25 lines, none wider than 90 columns."""
    for source in notebook.code:
        lines = source.splitlines()
        if len(lines) > 25:
            yield f"{len(lines)} lines in the cell that begins with {lines[0]!r}"
        yield from (f"{len(line)} columns: {line.strip()[:60]}" for line in lines if len(line) > 90)


def folds_set_up_and_checks(notebook: Notebook) -> Iterator[str]:
    """Parameters, imports and asserts stand in folded cells, tagged setup and checks."""
    for cell in notebook.content.cells:
        if cell.cell_type != "code":
            continue
        nodes = list(ast.walk(ast.parse(_python(cell.source))))
        for kind, tag in ((ast.Assert, "checks"), ((ast.Import, ast.ImportFrom), "setup")):
            tagged = tag in cell.metadata.get("tags", ()) and is_folded(cell)
            if any(isinstance(node, kind) for node in nodes) and not tagged:
                yield f"{tag} lie open in the cell that begins with {cell.source.splitlines()[0]!r}"


def leaves_predictions_open(notebook: Notebook) -> Iterator[str]:
    """The cell after a prediction neither asserts the answer nor says in a comment what was measured."""
    cells = notebook.content.cells
    for before, after in zip(cells, cells[1:], strict=False):
        asked = before.cell_type == "markdown" and "**Predict first" in before.source
        if asked and after.cell_type == "code" and re.search(ANSWERED, after.source, re.MULTILINE | re.IGNORECASE):
            yield f"answered at once: {after.source.splitlines()[0]!r}"


def draws_with_the_library(notebook: Notebook) -> Iterator[str]:
    """At most 15 % of the open lines lay out a figure, a table or a sentence."""
    open_cells = [c for c in notebook.content.cells if c.cell_type == "code" and not is_folded(c)]
    lines = [line for cell in open_cells for line in cell.source.splitlines() if line.strip()]
    looks = [line for line in lines if re.search(LOOKS, line)]
    if len(looks) > 0.15 * len(lines):
        yield f"{len(looks)} of {len(lines)} lines are about looks"


def has_exercises_with_hints(notebook: Notebook) -> Iterator[str]:
    """Enough of both, and no hint lies open."""
    text = "\n\n".join(notebook.text)
    exercises = len(re.findall(r"^@(?:\w+\.)*exercise\(", "\n".join(notebook.code), re.MULTILINE))
    if exercises < EXERCISES:
        yield f"{exercises} exercises"
    opened, closed = text.count("<details"), text.count("</details>")
    if opened != closed:
        yield f"{opened} <details>, {closed} </details>"
    if opened < HINT_LAYERS * exercises:
        yield f"{opened} <details> for {exercises} exercises"
    shown = re.sub(r"<details.*?</details>", "", text, flags=re.DOTALL)
    if re.search(r"^[\s>*_#-]*hints?\b", shown, re.IGNORECASE | re.MULTILINE):
        yield "a hint outside <details>"


def asserts_its_claims(notebook: Notebook) -> Iterator[str]:
    """At least one assert statement."""
    nodes = (node for source in notebook.code for node in ast.walk(ast.parse(_python(source))))
    if not any(isinstance(node, ast.Assert) for node in nodes):
        yield "no assert"


def uses_no_shell(notebook: Notebook) -> Iterator[str]:
    """It runs where there is neither a shell nor a network."""
    for line in re.findall(
        r"^\s*(?:!|%%?(?:pip|conda|bash|sh|system|sx)\b).*$", "\n".join(notebook.code), re.MULTILINE
    ):
        yield f"shell line {line.strip()!r}"


def names_no_absolute_path(notebook: Notebook) -> Iterator[str]:
    """It runs on another machine."""
    everything = "\n".join(notebook.code + notebook.text)
    for path in re.findall(r"(?:(?<![\w.:/~])/(?:home|root|tmp|work|usr|mnt|Users)/|\b[A-Z]:\\)\S*", everything):
        yield f"absolute path {path}"


def describes_its_pictures(notebook: Notebook) -> Iterator[str]:
    """Alternative text for each picture in the text and for each one written as HTML."""
    text = "\n".join(notebook.text)
    for picture in re.findall(r"!\[\s*\]\([^)]*\)", text):
        yield f"no alternative text: {picture[:60]}"
    for tag in re.findall(r"<img\b[^>]*>", "\n".join([text, *notebook.code])):
        if not re.search(r"""\balt=\\?["'][^"']*[^"'\s\\]""", tag):
            yield f"no alternative text: {tag[:60]}"


def _python(source: str) -> str:
    """The source with Jupyter's own lines commented out."""
    return re.sub(r"^(\s*)[%!]", r"\1#", source, flags=re.MULTILINE)


RULES: list[Callable[[Notebook], Iterator[str]]] = [
    runs_under_papermill,
    follows_btlib_profile,
    is_stripped,
    asks_for_the_kernel_python3,
    has_cell_ids,
    has_its_title,
    has_its_headings,
    states_its_minutes,
    has_exercises_with_hints,
    asserts_its_claims,
    uses_no_shell,
    names_no_absolute_path,
    describes_its_pictures,
    has_cells_that_fit_a_screen,
    folds_set_up_and_checks,
    leaves_predictions_open,
    draws_with_the_library,
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_every_lesson_keeps_the_rule(rule):
    lessons = [Notebook(path) for path in sorted(notebooks().glob("*.ipynb"))]
    assert [f"{lesson.path.name}: {complaint}" for lesson in lessons for complaint in rule(lesson)] == []


def test_half_of_the_cells_have_at_most_ten_lines():
    lessons = [Notebook(path) for path in sorted(notebooks().glob("*.ipynb"))]
    lengths = [len(source.splitlines()) for lesson in lessons for source in lesson.code]
    assert median(lengths) <= 10


def misnumbered(names: Iterable[str]) -> list[str]:
    """What is wrong with the lessons' numbers: two digits each, all different, the first is 00; gaps are allowed."""
    names = sorted(names)
    complaints = [f"{name}: no number of two digits and _" for name in names if not re.match(r"\d\d_", name)]
    numbers = [name[:2] for name in names]
    complaints += [f"number {number} is taken twice" for number in sorted({n for n in numbers if numbers.count(n) > 1})]
    return complaints + ([] if numbers[:1] == ["00"] else ["no lesson 00 at the start"])


def test_lessons_are_numbered_from_00():
    assert misnumbered(path.name for path in notebooks().glob("*.ipynb")) == []


@pytest.mark.parametrize(
    ("names", "complaints"),
    [
        (["00_a", "01_b", "05_c"], 0),
        (["00_a", "01_b", "01_c"], 1),
        (["01_a", "02_b"], 1),
        (["00_a", "1_b"], 1),
        (["00_a", "100_b"], 1),
        ([], 1),
    ],
)
def test_wrong_numbers_are_noticed(names, complaints):
    assert len(misnumbered(names)) == complaints


# The rules themselves: a lesson that keeps all of them, and one change for each way to break one.

HINTS = "<details><summary>Hint</summary>look</details>\n" * HINT_LAYERS * EXERCISES
GOOD_TEXT = (
    "# Lesson 03 — Triggers\n\nabout 17 minutes\n\n## Objectives\n## Recap\n## References\n\n![a coat](coat.png)\n\n"
    + HINTS
)
GOOD_PARAMETERS = "import btlib\nPROFILE = btlib.profiles.profile().name\nSEED = 0"
GOOD_CODE = (
    '@exercise("embed")\ndef f(): ...\n' * EXERCISES
    + "x = 1\n" * 4
    + "show('<img alt=\"a coat\">')\n%matplotlib inline"
)
GOOD_ANSWER = "answer = 3"
GOOD_CHECK = "assert True  # measured 3"


def make(folder, old="", new="", change=lambda notebook: None) -> Notebook:
    """A lesson that keeps every rule, but for `old` replaced by `new` and what `change` does."""
    cells = [
        nbformat.v4.new_markdown_cell(GOOD_TEXT.replace(old, new) if old else GOOD_TEXT),
        nbformat.v4.new_code_cell(
            GOOD_PARAMETERS.replace(old, new) if old else GOOD_PARAMETERS,
            metadata={"tags": ["setup", "parameters"], "jupyter": {"source_hidden": True}},
        ),
        nbformat.v4.new_code_cell(GOOD_CODE.replace(old, new) if old else GOOD_CODE),
        nbformat.v4.new_markdown_cell("**Predict first.** How many?"),
        nbformat.v4.new_code_cell(GOOD_ANSWER.replace(old, new) if old else GOOD_ANSWER),
        nbformat.v4.new_code_cell(
            GOOD_CHECK.replace(old, new) if old else GOOD_CHECK,
            metadata={"tags": ["checks"], "jupyter": {"source_hidden": True}},
        ),
    ]
    notebook = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": {"name": "python3", "display_name": "x"}})
    change(notebook)
    path = folder / "03_triggers.ipynb"
    nbformat.write(notebook, path)
    return Notebook(path)


def test_minutes_of_optional_parts_are_counted_apart():
    words = "word " * 400
    texts = ["## One\n" + words, "## Two (optional)\n" + words, "### deeper\n" + words, "## Three\n**Predict first.**"]
    lesson = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(text) for text in texts])
    lesson.cells.insert(1, nbformat.v4.new_code_cell('@exercise("x")\ndef f(): ...'))
    estimated = estimate_minutes(lesson)
    assert (estimated.core, estimated.optional) == (8, 4)  # 2 + 5 for the exercise + 1; and 2 + 2
    lesson.cells[1].metadata = {"jupyter": {"source_hidden": True}}
    assert estimate_minutes(lesson).core == 3


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_a_good_lesson_has_no_complaints(rule, tmp_path):
    assert list(rule(make(tmp_path))) == []


@pytest.mark.parametrize(
    ("rule", "old", "new"),
    [
        (runs_under_papermill, "PROFILE", "PROFIEL"),
        (follows_btlib_profile, "btlib.profiles.profile().name", '"fast"'),
        (follows_btlib_profile, "SEED = 0", "SEED = 0\nsettings = other"),
        (follows_btlib_profile, "SEED = 0", "SEED = len('abc')"),
        (has_its_title, "Lesson 03", "Lesson 02"),
        (has_its_title, "# Lesson 03 — Triggers", "Triggers"),
        (has_its_title, "## Recap", "# Recap"),
        (has_its_headings, "## Recap", "Recap"),
        (states_its_minutes, "about 17 minutes", "a while"),
        (states_its_minutes, "about 17 minutes", "about 40 minutes"),
        (states_its_minutes, "about 17 minutes", "about 17 minutes, and 30 for the optional parts"),
        (has_cells_that_fit_a_screen, "answer = 3", "answer = 3\n" * 26),
        (has_cells_that_fit_a_screen, "answer = 3", "answer = 3  # " + 80 * "x"),
        (folds_set_up_and_checks, "answer = 3", "import torch"),
        (folds_set_up_and_checks, "answer = 3", "if True:\n    assert 3"),
        (leaves_predictions_open, "answer = 3", "answer = 3  # Measured: 3"),
        (leaves_predictions_open, "answer = 3", "assert 3"),
        (draws_with_the_library, "answer = 3", "ax.set(xlabel='x')\n" * 4),
        (has_exercises_with_hints, '@exercise("embed")\ndef f(): ...\n' * 3, "# @exercise("),
        (has_exercises_with_hints, HINTS, ""),
        (has_exercises_with_hints, "</details>", ""),
        (has_exercises_with_hints, "![a coat]", "**Hint 1** think\n\n![a coat]"),
        (asserts_its_claims, "assert True", "# assert True"),
        (uses_no_shell, "%matplotlib inline", "%pip install torch"),
        (uses_no_shell, "%matplotlib inline", "!ls"),
        (names_no_absolute_path, "assert True", "open('/home/me/x')"),
        (names_no_absolute_path, "![a coat](coat.png)", "![a coat](C:\\coat.png)"),
        (describes_its_pictures, "![a coat]", "![]"),
        (describes_its_pictures, '<img alt="a coat">', '<img src="x">'),
        (describes_its_pictures, '<img alt="a coat">', '<img alt="">'),
    ],
)
def test_a_broken_rule_is_noticed(rule, old, new, tmp_path):
    assert list(rule(make(tmp_path, old, new))) != []


def _with_output(notebook):
    notebook.cells[2].outputs = [nbformat.v4.new_output("stream", text="x")]


def _with_other_kernel(notebook):
    notebook.metadata.kernelspec.name = "btlib"


def _with_widgets(notebook):
    notebook.metadata.widgets = {}


def _with_old_format(notebook):
    notebook.nbformat_minor = 4
    for cell in notebook.cells:
        del cell["id"]


@pytest.mark.parametrize(
    ("rule", "change"),
    [
        (is_stripped, _with_output),
        (is_stripped, lambda notebook: notebook.cells[1].update(execution_count=1)),
        (is_stripped, _with_widgets),
        (asks_for_the_kernel_python3, _with_other_kernel),
        (has_cell_ids, _with_old_format),
        (runs_under_papermill, lambda notebook: notebook.cells[1].metadata.clear()),
    ],
)
def test_a_broken_file_is_noticed(rule, change, tmp_path):
    assert list(rule(make(tmp_path, change=change))) != []
