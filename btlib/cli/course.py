"""`btlib course`: run every lesson, leave them executed, a report, and the site made of them."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from btlib import paths
from btlib.cli import needs

if TYPE_CHECKING:
    from nbformat import NotebookNode

    from btlib.cli.execute import LessonRun
    from btlib.profiles import Profile

#: `--profile` of a command that takes a file, too; `chosen_profile` reads it.
ProfileOption = Annotated[str, typer.Option(
    envvar="BTLIB_PROFILE", help="How much work: fast, full, paper, or a .toml file of your own.")]  # fmt: skip


def chosen_profile(name: str) -> "Profile":
    """The profile that an option names.

    Raises:
        typer.BadParameter: none of that name, or a file that is none.
    """
    from btlib import profiles

    try:
        return profiles.profile(name)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def command(
    *,
    lesson: Annotated[str | None, typer.Option(help="Only this lesson, such as 02.")] = None,
    profile: ProfileOption = "fast",
    out: Annotated[Path | None, typer.Option(
        help="Folder for executed lessons and the report; default: build/course.")] = None,
    notebooks: Annotated[Path | None, typer.Option(
        help="Folder of the lessons; default: the repository's notebooks/, or the current folder.")] = None,
    pages: Annotated[bool, typer.Option(help="Make the site.")] = True,
) -> None:  # fmt: skip
    """Run the lessons, and make pages of them.

    All of them run, even when one fails; then it says which failed, where and how.

    In a checkout the site is made beside `out`: once after the first lesson, to be read while the others run, and at
    the end.
    """
    from btlib.cli.check import check_kernel

    profile = chosen_profile(profile).name
    folder, out = notebooks or needs.lessons(), out or paths.root() / "build" / "course"
    needs.extra("course", but=needs.LAB)
    kernel = check_kernel()
    if not kernel.ok:
        typer.echo(kernel, err=True)
        raise typer.Exit(1)
    os.environ["BTLIB_PROFILE"] = profile  # what the kernel's btlib reads
    show = _shown_beside(out, folder, pages)
    with needs.sentences():
        runs = run_course(folder, out, profile, lesson, first=show)
        for run in runs:
            cost = f"{run.seconds:7.1f} s {run.peak_mb:7.0f} MB {run.cells:4} cells"
            typer.echo(f"{run.status:6} {run.lesson:24} {cost}")
        show()
    failed = [run for run in runs if run.error is not None]
    for run in failed:
        typer.echo(f"FAIL {run.lesson} {run.error}", err=True)
    raise typer.Exit(bool(failed))


def _shown_beside(out: Path, notebooks: Path, pages: bool) -> Callable[[], None]:
    """A function that makes the site of what has run, and says where; without one it says where that lies."""
    root = paths.repository()

    def show() -> None:
        from btlib.cli.site_build import build

        made = root and pages and not needs.lacking("site")
        page = build(root, notebooks, out, out.parent / "site") if root and made else out
        typer.echo(f"pages: {page}")

    return show


def run_missing(notebooks: Path, out: Path, number: str | None = None) -> "dict[str, NotebookNode]":
    """Executed lessons by name; one whose cells are not as they were when it ran is run, at `fast`, and kept in `out`.

    Raises:
        LessonError: there is no such lesson, or one does not run to its end.
    """
    from btlib.cli.copies import read
    from btlib.cli.lessons import LessonError, find_lessons

    executed: dict[str, NotebookNode] = {}
    failed: list[LessonRun] = []
    for lesson in find_lessons(notebooks, number):
        path = out / f"{lesson.name}.ipynb"
        if not path.exists() or _cells(read(path)) != _cells(read(lesson.path)):
            failed += [run for run in run_course(notebooks, out, number=lesson.number) if run.error]
        executed[lesson.name] = read(path)
    if failed:
        stops = "; ".join(f"{run.lesson}: {run.error}" for run in failed)
        raise LessonError(
            f"lessons: expected all to run to their end, got {stops}; look into {out}, mend, and try again"
        )
    return executed


def _cells(notebook: "NotebookNode") -> list[str]:
    return [cell.source for cell in notebook.cells if "injected-parameters" not in cell.metadata.get("tags", ())]


def run_course(
    notebooks: Path, out: Path, profile: str = "fast", number: str | None = None,
    *, patience: float | None = None, first: Callable[[], None] | None = None,
) -> "list[LessonRun]":  # fmt: skip
    """Run lessons one after the other and keep each as it ends.

    Args:
        notebooks: folder of the lessons.
        out: folder for NN_topic.ipynb, executed, and report.json, each whole or absent.
        profile: value for each notebook's PROFILE.
        number: only this lesson.
        patience: seconds for one cell; default: by the profile.
        first: called after the first lesson where others follow.

    Returns:
        One account per lesson; a failure is an account, not an exception.

    Raises:
        LessonError: there is no such lesson.
    """
    import nbformat

    from btlib.cli.execute import run_lesson
    from btlib.cli.lessons import find_lessons
    from btlib.cli.report import as_json, write_report
    from btlib.files import write_text

    lessons = find_lessons(notebooks, number)
    runs: list[LessonRun] = []
    for place, lesson in enumerate(lessons, start=1):
        run, executed = run_lesson(lesson, profile, f"{lesson.name} ({place}/{len(lessons)})", patience)
        runs.append(run)
        executed.metadata["btlib"] = as_json(run)
        write_text(out / f"{lesson.name}.ipynb", nbformat.writes(executed))
        write_report(out, runs, profile)
        if first and place == 1 < len(lessons):
            first()
    return runs
