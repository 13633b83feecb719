"""`python -m btlib …`: the command line."""

from btlib.cli import main

if __name__ == "__main__":
    main()
