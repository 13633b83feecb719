"""The command line (floor 6): one module per command, listed in `btlib.cli.app`.

These modules import nothing slow at their top, so that `btlib --help` answers at once.
"""

import sys
from importlib.util import find_spec
from pathlib import Path


def main() -> None:
    """Run a command. A Python without our packages can do one thing only: say which are missing."""
    if find_spec("typer") is None:
        from btlib.cli import check

        check.command()
    from btlib.cli.app import app

    app(prog_name="python -m btlib" if Path(sys.argv[0]).stem == "__main__" else "btlib")
