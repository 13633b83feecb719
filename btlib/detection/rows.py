"""Several searches at once: their state, one row each, and what was recorded of them (floor 2)."""

import copy
from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor


class Rows:
    """Tensors with one row per search that goes on, and nothing else; a row leaves when its search is done.

    Attributes:
        row: int64 (P,), where each search stands in the caller's list.

    Example:
        >>> at = Rows()
        >>> at.row, at.norm = torch.arange(3), torch.ones(3)
        >>> at.take(torch.tensor([False, True, True])).row.tolist()
        [1, 2]
    """

    row: Tensor

    @property
    def state(self) -> dict[str, Tensor]:
        """The tensors by name, for a resume file; what is put into this dict is put into the state."""
        return vars(self)

    def take(self, rows: Tensor) -> Self:
        """Copies of these rows only, by number (int64) or by a mask (bool)."""
        if rows.dtype == torch.bool:
            rows = rows.nonzero().flatten()  # once: a GPU makes the CPU wait each time
        taken = copy.copy(self)
        taken.state.update({name: value[rows] for name, value in self.state.items()})
        return taken


def histories(records: Sequence[tuple[Tensor, ...]], problems: int) -> list[dict[str, Tensor]]:
    """Records by iteration → one history per problem.

    Args:
        records: tuples (row, step, norm, Q) or (row, step, norm, Q, weights), one entry per problem still open.
        problems: P.

    Example:
        >>> ones = torch.ones(1)
        >>> histories([(torch.tensor([0]), ones, ones, ones, torch.ones(1, 3))] * 2, 1)[0]["weights"].shape
        torch.Size([2, 3])
    """
    rows, *columns = (torch.cat(column).cpu() for column in zip(*records, strict=True))
    order = rows.argsort(stable=True)
    sizes = torch.bincount(rows, minlength=problems).tolist()
    split = [column[order].split(sizes) for column in columns]
    return [dict(zip(("step", "norm", "Q", "weights"), each, strict=False)) for each in zip(*split, strict=True)]
