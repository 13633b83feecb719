"""The command line (floor 6): one module per command, listed in `btlib.cli.app`.

These modules import nothing slow at their top, so that `btlib --help` answers at once.
"""

import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from btlib.memory import enough_memory


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command. A Python without our packages can do one thing only: say which are missing.

    Args:
        arguments: of the command line; None: those that Python was called with.
    """
    if find_spec("typer") is None:
        from btlib.cli import check

        check.command()
    name = "python -m btlib" if Path(sys.argv[0]).stem == "__main__" else "btlib"
    try:
        with enough_memory("this command"):
            from btlib.cli.app import app

            app(arguments, prog_name=name)
    except MemoryError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
