"""`btlib paper`: the papers' tables, row by row: what is done, what it costs; run rows, compare."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from btlib import paths

if TYPE_CHECKING:
    from btlib.papers import Comparison, Outcome, Result, Standing, Table, Task


ProfileName = Literal["fast", "full", "paper", "minutes"]


def command(
    name: Annotated[str | None, typer.Argument(
        metavar="TABLE", help="Run the rows of this table, such as lred-2; without it all tables are listed.")] = None,
    *,
    profile: Annotated[ProfileName, typer.Option(
        envvar="BTLIB_PROFILE", help="fast: shipped networks; full: what two cores can do; paper: the papers' data; "
        "minutes: their networks, trained briefly on a GPU.",
        )] = "full",
    rows: Annotated[str | None, typer.Option(help="Only these, separated by commas.")] = None,
    seeds: Annotated[int | None, typer.Option(
        min=1, help="Repetitions; unless given 1, 3, and at profile paper as many as the paper has.")] = None,
    workers: Annotated[int | None, typer.Option(
        min=1, help="Processes, one thread each if several; unless given one, or as many as the GPUs hold.")] = None,
    dask: Annotated[str | None, typer.Option(help="Address of a Dask scheduler that runs the rows.")] = None,
    results: Annotated[Path | None, typer.Option(
        help="Folder of the results; default: the repository's results/, or the user's data folder.")] = None,
    dry: Annotated[bool, typer.Option("--list", help="Run nothing: list the table, then ours beside it.")] = False,
) -> None:  # fmt: skip
    """List or remake the papers' tables.

    Runs rows of one and puts ours beside the published numbers. Finished rows stay.
    """
    from btlib import papers
    from btlib.datasets import DataError

    folder = results or paths.results()
    if results is None and paths.repository() is None:
        typer.echo(f"results: an installed btlib brings none, so they are sought in {folder}; the measured ones are "
                   "results/ of a checkout, which --results takes", err=True)  # fmt: skip
    known = papers.every(folder)
    for line in papers.refused(folder):
        typer.echo(line, err=True)
    try:
        if name is None:
            if rows or seeds or workers or dask:
                raise ValueError(
                    "TABLE: expected the table to run, such as lred-2, got none; without it all are listed"
                )
            typer.echo("\n\n".join(listed(table, profile, known) for table in papers.tables().values()))
            return
        table = papers.table(name)
        chosen = choose(table, rows)
        if dry:
            typer.echo(listed(table, profile, known))
            outcomes: list[Outcome] = []
        else:
            tasks = make_tasks(table, chosen, profile, seeds, explicit=rows is not None, here=dask is None, known=known)
            outcomes = papers.run(tasks, folder, workers=workers, dask=dask, progress=True)
    except (ValueError, DataError, papers.NoRoom, papers.SweepError) as error:
        typer.echo(" ".join(str(error).split()), err=True)
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        typer.echo("stopped; finished rows are kept, and the same command goes on with the others", err=True)
        raise typer.Exit(130) from None
    typer.echo(compared(papers.compare(name, profile, folder), chosen))
    failed = [outcome for outcome in outcomes if outcome.error]
    for outcome in failed:
        typer.echo(f"FAIL {outcome.task.row} seed {outcome.task.measurement.seed}: {outcome.error}", err=True)
    raise typer.Exit(bool(failed))


def choose(table: "Table", rows: str | None) -> list[str]:
    """The names of the wanted rows; complains about one that does not exist."""
    if rows is None:
        return list(table.rows)
    wanted = list(dict.fromkeys(part.strip() for part in rows.split(",") if part.strip()))
    unknown = [row for row in wanted if row not in table.rows]
    if unknown or not wanted:
        raise ValueError(f"--rows: expected some of {', '.join(table.rows)}, got {rows!r}; separate them by commas")
    return wanted


def make_tasks(
    table: "Table", rows: list[str], profile: str, seeds: int | None, *, explicit: bool, here: bool,
    known: "Mapping[str, Result]",
) -> "list[Task]":  # fmt: skip
    """What there is to do. Rows that can't run here are left out with a line; named ones are an error.

    Raises:
        ValueError: a named row that can't run here. What a cluster's workers have is not known here.
        DataError: a named row's images are missing, and can't be downloaded.
    """
    import torch

    from btlib import datasets, papers, profiles

    usual = {"paper": table.repetitions, "minutes": 1}
    count = seeds or usual.get(profile) or profiles.PROFILES[profile].repeats
    tasks = []
    for row in rows:
        stands = papers.standing(table.rows[row], profile, known, gpu=torch.cuda.is_available())
        first = papers.plan(table.rows[row], profile)
        wanted = None if isinstance(first, str) else first.measurement.data
        if stands.state == "needs data" and here and explicit and wanted:
            datasets.load(wanted)  # downloaded where that is possible
        elif stands.state == "not in this profile" or (here and stands.state not in ("done", "not run")):
            line = f"{table.name}/{row}: {stands.state}" + (f" ({stands.note})" if stands.note else "")
            if explicit:
                raise ValueError(f"--rows: expected rows that can run here, got {line}; leave it out")
            typer.echo(f"left out: {line}", err=True)
            continue
        for seed in range(count):
            planned = papers.plan(table.rows[row], profile, seed)
            if isinstance(planned, papers.Plan):  # it is: `standing` has said so
                tasks.append(papers.Task(planned.home, planned.measurement))
    return tasks


# ---------------------------------------------------------------------------------------------- what is printed


def listed(table: "Table", profile: str, known: "Mapping[str, Result]") -> str:
    """A table's rows with state and cost."""
    import torch

    from btlib import papers

    gpu = torch.cuda.is_available()
    lines = [f"{table.name}: {table.title} [{table.source}]"]
    lines += [_line(papers.standing(row, profile, known, gpu)) for row in table.rows.values()]
    return "\n".join(lines)


def _line(stands: "Standing") -> str:
    cost = "unknown" if stands.seconds is None else f"{stands.seconds:,.0f} s"
    state = f"done, {stands.done} seeds" if stands.done > 1 else stands.state
    what = "" if stands.state == "not in this profile" else f"{cost} a seed"
    note = f"  ({stands.note})" if stands.note else ""
    return f"  {stands.row.name:18} {state:20} {what:16}{note}".rstrip()


def compared(found: "list[Comparison]", rows: list[str]) -> str:
    """Ours beside published, one line per number."""
    lines = [f"{'row':18} {'number':20} {'published':>14} {'ours':>10} {'± sd':>8} {'n':>2}  agrees"]
    for one in found:
        if one.row.name not in rows or one.published.printed == "NA":
            continue
        ours = f"{one.ours:.4g}" if one.ours is not None else "none" if one.runs else "not run"
        spread = "" if one.spread is None else f"{one.spread:.2g}"
        agrees = {True: "yes", False: "no", None: ""}[one.agrees]
        theirs = f"{one.row.name:18} {one.column:20} {one.published.printed:>14}"
        lines.append(f"{theirs} {ours:>10} {spread:>8} {one.seeds:2}  {agrees}".rstrip())
    notes = dict.fromkeys(f"{one.row.name}: {one.differs}" for one in found if one.row.name in rows and one.differs)
    return "\n".join([*lines, *(["What differs from the paper:", *(f"- {note}" for note in notes)] if notes else [])])
