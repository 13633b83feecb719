"""`python -m btlib checkpoints`: train the networks that the lessons need."""

from typing import Annotated

import typer


def command(
    force: Annotated[bool, typer.Option("--force", help="Train again even what is there and valid.")] = False,
) -> None:
    """Make the networks and attacks in data/checkpoints/ that are missing."""
    from btlib import attacks, checkpoints

    for make_shipped in (checkpoints.make_shipped, attacks.make_shipped):  # attacks start from the clean network
        make_shipped(progress=True, force=force)
