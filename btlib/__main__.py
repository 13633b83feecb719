"""`python -m btlib …`: the command line."""

from btlib.cli.app import app

if __name__ == "__main__":
    app(prog_name="python -m btlib")
