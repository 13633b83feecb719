"""`python -m btlib checkpoints`: train the networks that the lessons need."""

from typing import Annotated

import typer


def command(
    force: Annotated[bool, typer.Option("--force", help="Train again even what is there and valid.")] = False,
) -> None:
    """Make the networks in data/checkpoints/ that are missing."""
    from btlib.checkpoints import make_shipped

    make_shipped(progress=True, force=force)
