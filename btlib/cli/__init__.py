"""The command line (floor 6): one module per command, listed in `btlib.cli.app`.

These modules import nothing slow at their top, so that `btlib --help` answers at once.
"""
