"""`btlib exam make` and `exam mark`: the capstone as an examination."""

import json
from pathlib import Path
from typing import Annotated

import typer

from btlib.cli import needs
from btlib.cli.course import ProfileOption, chosen_profile

app = typer.Typer(help="The capstone as an examination.", no_args_is_help=True)


@app.command()
def make(
    folder: Annotated[Path, typer.Argument(help="Yours alone: the answers lie in its keys/.")],
    *,
    cases: Annotated[int, typer.Option(min=1, help="How many different cases; each takes about a minute.")] = 1,
    profile: ProfileOption = "fast",
    attacks: Annotated[str | None, typer.Option(
        help="What may be drawn where all classes are sources, one case in three: some of box, chessboard, "
        "local_chessboard, adaptive_blend, adaptive_patch, wanet, sig; unless given, the first three. The course's "
        "detectors may miss the last two.", show_default=False)] = None,
    covers: Annotated[int, typer.Option(
        min=0, help="Stamped images of each other class that keep their label, of attacks from few classes: these "
        "are harder to find.")] = 0,
) -> None:  # fmt: skip
    """Make cases: give for-students/ away, keep keys/."""
    from btlib.datasets import DataError
    from btlib.exercises import examination
    from btlib.exercises.mystery_attacks import ATTACKS

    size = chosen_profile(profile)
    drawn = ATTACKS if attacks is None else tuple(name.strip() for name in attacks.split(",") if name.strip())
    with needs.sentences():
        taken = len(list((folder / "keys").glob("case-*.safetensors")))
        for number in range(taken + 1, taken + cases + 1):
            name = f"case-{number:02}.safetensors"
            case, key = folder / "for-students" / name, folder / "keys" / name
            try:
                examination.make_case(size, case, key, attacks=drawn, covers=covers, progress=True)
            except (DataError, ValueError) as error:  # of a profile of one's own; an attack that does not take
                raise typer.BadParameter(str(error)) from error
            typer.echo(f"{case}: give it away; its key is {key}")


@app.command()
def mark(
    folder: Annotated[Path, typer.Argument(help="What `exam make` made.")],
    reports: Annotated[Path, typer.Argument(help="Folder of what students handed in: NAME.safetensors.")],
) -> None:
    """Mark the first reports of each student; later ones do not count. Marks are kept in keys/marks.json."""
    from btlib.exercises import examination
    from btlib.files import write_text
    from btlib.sealed import SealError

    ledger = folder / "keys" / "marks.json"
    with needs.sentences():
        known = json.loads(ledger.read_text(encoding="utf-8")) if ledger.exists() else {}
        cases = {
            examination.number_of(path): path.name for path in sorted((folder / "keys").glob("case-*.safetensors"))
        }
        for path in sorted(reports.glob("*.safetensors")):
            try:
                if path.stem in known:
                    same = known[path.stem]["digest"] == _digest(path)
                    typer.echo(
                        _line(path.stem, known) + ("" if same else "; other reports came later and do not count")
                    )
                    continue
                name = cases[examination.number_of(path)]
                marks = examination.mark_reports(path, folder / "for-students" / name, folder / "keys" / name)
            except (SealError, ValueError, KeyError) as error:
                typer.echo(f"{path.stem}: not marked: {error}", err=True)
                continue
            known[path.stem] = {"digest": _digest(path), "marks": [vars(one) for one in marks]}
            write_text(ledger, json.dumps(known, indent=1))
            typer.echo(_line(path.stem, known))


def _line(student: str, known: dict[str, dict[str, list[dict[str, float]]]]) -> str:
    marks = known[student]["marks"]
    return f"{student:24} {sum(one['points'] for one in marks):.0f} of {sum(one['out_of'] for one in marks):.0f} points"


def _digest(path: Path) -> str:
    import hashlib

    return hashlib.sha256(path.read_bytes()).hexdigest()
