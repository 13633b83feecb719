"""`btlib checkpoints`: train the networks that the lessons need."""

from typing import Annotated

import typer

from btlib import paths


def command(
    force: Annotated[bool, typer.Option("--force", help="Train again even what is there and valid.")] = False,
) -> None:
    """Make what is missing in data/checkpoints/.

    These are the networks and attacks that the lessons open.
    """
    if paths.CHECKOUT is None:  # what is shipped with an installed btlib is only read
        typer.echo(f"code: expected that of a checkout, got an installed btlib in {paths.CODE}; run "
                   "python -m btlib checkpoints in a checkout", err=True)  # fmt: skip
        raise typer.Exit(2)
    from btlib import attacks, checkpoints

    for make_shipped in (checkpoints.make_shipped, attacks.make_shipped):  # attacks start from the clean network
        make_shipped(progress=True, force=force)
