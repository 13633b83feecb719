"""Too little memory, in one sentence (floor 0): torch, the loader and the system each say it in words of their own."""

from collections.abc import Iterator
from contextlib import contextmanager
from mmap import mmap
from textwrap import shorten

#: What is said where memory is short: by torch's allocators, oneDNN, the loader, the system, CUDA, C++.
_SAID = ("allocate memory", "not enough memory", "out of memory", "could not create a primitive", "ALLOC_FAILED",
         "failed to map segment", "bad_alloc")  # fmt: skip
#: Bytes asked for, and given back untouched, before anything is begun: oneDNN crashes where it gets nothing at all.
_LEAST = 16 << 20
_KINDS = (MemoryError, RuntimeError, OSError, ImportError)


def is_short(error: BaseException) -> bool:
    """Whether an error says, in whatever words, that there was not enough memory.

    Example:
        >>> is_short(RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")), is_short(RuntimeError("no"))
        (True, False)
    """
    return isinstance(error, MemoryError) or isinstance(error, _KINDS) and any(said in str(error) for said in _SAID)


@contextmanager
def enough_memory(what: str) -> Iterator[None]:
    """Inside, too little memory ends in one `MemoryError`, also where somebody took it for another mistake.

    Args:
        what: is done inside.

    Raises:
        MemoryError: an error inside says so, or was raised while one that says so was handled.

    Example:
        >>> with enough_memory("the scan"):
        ...     raise RuntimeError("could not create a primitive")
        Traceback (most recent call last):
        ...
        MemoryError: memory: expected enough for the scan, got "could not create a primitive"; give it fewer or ...
    """
    try:
        mmap(-1, _LEAST).close()
        yield
    except Exception as error:
        short = next(filter(is_short, _and_what_led_to(error)), None)
        if short is None:
            raise
        if str(short).startswith("memory: "):  # said inside
            raise short from short.__cause__
        words = shorten(str(short), 200) or type(short).__name__
        raise MemoryError(f'memory: expected enough for {what}, got "{words}"; give it fewer or smaller images or '
                          "batches at once, end other programs, or raise the limit (ulimit -v)") from error  # fmt: skip


def _and_what_led_to(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
