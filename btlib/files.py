"""Files that are whole or absent (floor 0): everything btlib writes goes through here."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written_whole(path: str | Path) -> Iterator[Path]:
    """A temporary path that becomes `path` when the block ends well, and vanishes when it does not.

    Args:
        path: the file to write; its folder is made where missing.

    Yields:
        the temporary path, in the same folder, to write to.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder, written_whole(f"{folder}/a.txt") as part:
        ...     _ = part.write_text("whole")
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    part = Path(name)
    try:
        yield part
        umask = os.umask(0)  # mkstemp makes files private; give the result the usual permissions
        os.umask(umask)
        part.chmod(0o666 & ~umask)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
