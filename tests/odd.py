"""A network and images that a scan takes a moment for, for what is odd about strangers' files."""

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from toys import hand_set
from typer.testing import CliRunner

from btlib.cli.app import app
from btlib.cli.scan import FOUND

CLASSES, SIZE = 3, 8
SHAPE = (1, SIZE, SIZE)


def run(*arguments: object) -> tuple[int, list[str], str]:
    """Exit status, lines on stderr, and stdout; Python's warnings would be lines on stderr, too."""
    with warnings.catch_warnings(record=True) as warned:
        result = CliRunner().invoke(app, ["scan", *map(str, arguments)])
    assert [str(w.message) for w in warned] == []
    assert "Traceback" not in result.output
    assert result.exit_code in (0, 2, FOUND), result.output
    return result.exit_code, result.stderr.strip().splitlines(), result.stdout


def refused(*arguments: object) -> str:
    """The one line that a bad input gets, which is short, printable, and no raw error."""
    status, lines, said = run(*arguments, "--images", "images", "--methods", "red-a")
    assert (status, said, len(lines)) == (2, "", 1), lines
    assert lines[0].isprintable()
    assert len(lines[0]) < 2500
    assert lines[0].startswith("the scan broke: SystemExit") or "the scan broke" not in lines[0]
    return lines[0]


class Net(nn.Module):
    """`hand_set` with something odd before and after it."""

    def __init__(self, before: Callable = lambda x: x, after: Callable = lambda z: z, backdoor: float = 10.0) -> None:
        super().__init__()
        self.net, self.before, self.after = hand_set(backdoor, size=SIZE), before, after

    def forward(self, x: Tensor) -> Any:
        return self.after(self.net(self.before(x)))


class Shallow(nn.Module):
    """A plain linear network in the usual order of memory."""

    def __init__(self, channels: int = 1, flat: Callable[[Tensor], Tensor] = lambda x: x.flatten(1)) -> None:
        super().__init__()
        self.conv, self.fc, self.flat = nn.Conv2d(channels, 1, 1, bias=False), nn.Linear(SIZE * SIZE, 3), flat
        with torch.no_grad():
            self.conv.weight.fill_(1 / channels)
            self.fc.weight.copy_(hand_set(10.0, size=SIZE).head.weight)
            self.fc.bias.zero_()

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.flat(self.conv(x)))
