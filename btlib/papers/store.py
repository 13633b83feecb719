"""Results on disk: one JSON per finished measurement, written whole, read only if it is what it says (floor 5)."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from btlib.papers.measurements import Measurement
from btlib.results import save

_SCHEMA = "btlib paper result 1"
_KINDS: dict[str, Any] = {
    "row": str, "numbers": Mapping, "seconds": int | float, "peak_memory_mb": int | float, "device": str,
    "environment": Mapping, "finished": str,
}  # fmt: skip


class ResultError(RuntimeError):
    """A file is torn, changed or not a result; the message says which and why."""


@dataclass(frozen=True)
class Result:
    """What came of one measurement.

    Attributes:
        row: key of the row in whose name it is kept, ``table/row``.
        measurement: what was measured.
        numbers: what came out, nested, see `jobs`.
        seconds: wall time, with the training of a network that was remembered as long as its card says.
        peak_memory_mb: largest resident memory of the process meanwhile, MiB.
        device: ``cpu`` or ``cuda:N``.
        environment: commit, versions, processor, threads.
        finished: date and time, ISO.
    """

    row: str
    measurement: Measurement
    numbers: Mapping[str, Any]
    seconds: float
    peak_memory_mb: float
    device: str
    environment: Mapping[str, Any]
    finished: str

    def number(self, column: str) -> float | None:
        """The number of a column such as ``likelihood.tpr``; None where it was not measured.

        Example:
            >>> Result("t/r", Measurement("k"), {"a": {"b": 1.0}}, 0.0, 0.0, "cpu", {}, "").number("a.b")
            1.0
        """
        found: Any = self.numbers
        for part in column.split("."):
            found = found.get(part) if isinstance(found, Mapping) else None
        return found


class OtherVersion(ResultError):
    """A whole result, but of another measurement or version than its name says: as good as not measured."""


def path_of(folder: str | Path, row: str, measurement: Measurement) -> Path:
    """Where the result of a measurement is kept: ``<table>/<row>-s<seed>-<digest>.json``."""
    return Path(folder).absolute() / f"{row}-s{measurement.seed}-{measurement.digest}.json"


def write(folder: str | Path, result: Result) -> Path:
    """Keep a result, whole or not at all.

    Example:
        >>> import tempfile
        >>> result = Result("t/r", Measurement("k"), {"a": 1}, 0.1, 100.0, "cpu", {}, "2026-01-01")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     read(write(folder, result)) == result
        True
    """
    told = {key: value for key, value in asdict(result).items() if key != "measurement"}
    content = {"schema": _SCHEMA, **told, "recipe": result.measurement.as_json()}  # its name since the first results
    return save(path_of(folder, result.row, result.measurement), {**content, "checksum": _checksum(content)})


def read(path: str | Path) -> Result:
    """A result from its file.

    Raises:
        ResultError: torn, changed, of another measurement than its name says, or of another version of measuring.

    Example:
        >>> try:
        ...     read("no-such-file")
        ... except ResultError as error:
        ...     "is not a result" in str(error)
        True
    """
    path = Path(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        written = content.pop("checksum")
        if content.pop("schema") != _SCHEMA or written != _checksum({"schema": _SCHEMA, **content}):
            raise ResultError(f"{path}: its checksum does not fit its content, so it is not read; delete it")
        measured = Measurement(**content.pop("recipe"))
        result = Result(**content, measurement=measured)
        if wrong := [name for name, kind in _KINDS.items() if not isinstance(getattr(result, name), kind)]:
            raise TypeError(f"{wrong[0]}: {type(getattr(result, wrong[0])).__name__}")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ResultError(f"{path}: it is not a result of btlib ({error!r}), so it is not read; delete it") from error
    if path.name != path_of(path.parent, result.row, result.measurement).name:
        raise OtherVersion(f"{path}: it is of another measurement or version than its name says, so it is not read")
    return result


def find(folder: str | Path, measurement: Measurement) -> Result | None:
    """The result of a measurement, in whatever row's name it was kept; None: there is none that can be read.

    Example:
        >>> find("no-such-folder", Measurement("detection")) is None
        True
    """
    names = f"*/*-s{measurement.seed}-{measurement.digest}.json"
    return next((r for r in _all(folder, names) if isinstance(r, Result)), None)


def every(folder: str | Path) -> dict[str, Result]:
    """All results below a folder that can be read, by their recipe's digest.

    Example:
        >>> every("no-such-folder")
        {}
    """
    return {result.measurement.digest: result for result in _all(folder) if isinstance(result, Result)}


def refused(folder: str | Path) -> list[str]:
    """Why files below a folder are no results, one line each: torn or changed. Other versions' are only unknown.

    Example:
        >>> refused("no-such-folder")
        []
    """
    wrong = [error for error in _all(folder) if isinstance(error, ResultError)]
    return [str(error) for error in wrong if not isinstance(error, OtherVersion)]


def _all(folder: str | Path, names: str = "*/*-s*-*.json") -> Iterator[Result | ResultError]:
    for path in sorted(Path(folder).glob(names)):
        try:
            yield read(path)
        except ResultError as error:
            yield error


def _checksum(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
