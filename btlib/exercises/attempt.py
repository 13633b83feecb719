"""A student's function while it is checked: is there anything in it, does it end, what does it do to its inputs."""

import ast
import copy
import ctypes
import inspect
import linecache
import operator
import reprlib
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, TracebackType
from typing import Any

import numpy as np
import torch
from torch import Tensor

Answer = Callable[..., Any]
Convert = Callable[[Any, tuple[Any, ...]], Any]


class TooLong(BaseException):
    """Raised inside an answer that does not end; no `except Exception` of the student's holds it up."""


class Changed(Exception):
    """An answer has changed the argument of this name."""


class Attempt:
    """The answer as a check calls it: arguments must stay as they were, and results come as the lesson needs them.

    Args:
        answer: the student's function.
        convert: called with each result and the arguments; None: results stay as they are.

    Raises:
        Changed: an argument was changed.
    """

    def __init__(self, answer: Answer, convert: Convert | None) -> None:
        self.answer, self.convert, self.converted = answer, convert, False

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """The answer's result."""
        names = _names(self.answer)
        given = {**{names.get(i, f"argument {i + 1}"): value for i, value in enumerate(arguments)}, **named}
        before = {name: _copy(value) for name, value in given.items()}
        result = self.answer(*arguments, **named)
        for name, value in given.items():
            if not _alike(value, before[name]):
                raise Changed(name)
        return self._as_needed(result, arguments)

    def _as_needed(self, result: Any, arguments: tuple[Any, ...]) -> Any:
        if self.convert is None:
            return result
        needed = self.convert(result, arguments)
        self.converted |= needed is not result
        return needed

    def usable(self) -> Answer:
        """What the lesson goes on with: the answer itself, or the answer and the conversion it turned out to need."""
        if not self.converted:
            return self.answer

        def converted(*arguments: Any, **named: Any) -> Any:
            return self._as_needed(self.answer(*arguments, **named), arguments)

        converted.__name__ = getattr(self.answer, "__name__", "answer")
        converted.__doc__ = self.answer.__doc__
        return converted


def tensor(result: Any, arguments: tuple[Any, ...]) -> Any:
    """An array or numbers in lists as a tensor; a tensor, and what can't be one, as it came.

    Fractions get the dtype of the first tensor with fractions among the arguments.
    """
    if result is None or isinstance(result, Tensor | str | bytes):
        return result
    try:
        found = torch.as_tensor(np.asarray(result))
    except (TypeError, ValueError, RuntimeError):
        return result
    floats = [x.dtype for x in arguments if isinstance(x, Tensor) and x.is_floating_point()]
    return found.to(floats[0] if floats else torch.get_default_dtype()) if found.is_floating_point() else found


def pair_of_tensors(result: Any, arguments: tuple[Any, ...]) -> Any:
    """Two such results as a tuple; a tuple of tensors as it came."""
    if isinstance(result, Tensor | np.ndarray | str | bytes):
        return result
    try:
        parts = tuple(result)
    except TypeError:
        return result
    pair = tuple(tensor(part, arguments) for part in parts)
    return result if isinstance(result, tuple) and all(map(operator.is_, pair, parts)) else pair


def _names(answer: Answer) -> dict[int, str]:
    """The name of each argument that has one, by its place."""
    try:
        places = [p for p in inspect.signature(answer).parameters.values() if p.kind != p.KEYWORD_ONLY]
    except (TypeError, ValueError):  # built in
        return {}
    return {i: p.name for i, p in enumerate(places) if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}


def _copy(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().clone()
    return copy.deepcopy(value) if isinstance(value, np.ndarray | list | dict | set) else value


def _alike(now: Any, before: Any) -> bool:
    if isinstance(now, Tensor):
        return now.dtype == before.dtype and torch.equal(now.detach().nan_to_num(), before.nan_to_num())
    if isinstance(now, np.ndarray):
        return np.array_equal(now, before, equal_nan=True)
    return now is before or not isinstance(now, list | dict | set) or now == before


# ---------------------------------------------------------------------------------------- what is written


def blank(answer: Answer, stub: Answer | None = None) -> bool:
    """Whether nothing was written: only a docstring, ``...``, ``pass``, ``x = ...``; or just what the lesson had."""
    body = _body(answer)
    if body is None:
        return False
    if stub is not None and [ast.dump(line) for line in body] == [ast.dump(line) for line in _body(stub) or ()]:
        return True
    empty = {name.id for line in body for name in ast.walk(line) if isinstance(name, ast.Name) and _holds_dots(line)}
    return all(
        isinstance(line, ast.Pass)
        or _holds_dots(line)
        or (isinstance(line, ast.Return) and isinstance(line.value, ast.Name) and line.value.id in empty)
        or (isinstance(line, ast.Raise) and "NotImplementedError" in ast.unparse(line))
        for line in body
    )


def unfinished(answer: Answer) -> bool:
    """Whether some result or variable is still ``...``."""
    lines = [line for top in _body(answer) or () for line in ast.walk(top)]
    return any(_holds_dots(line) and not isinstance(line, ast.Expr) for line in lines)


def _holds_dots(line: ast.AST) -> bool:
    """Whether it is a bare ``...``, ``x = ...`` or ``return ...``."""
    held = isinstance(line, ast.Expr | ast.Return | ast.Assign | ast.AnnAssign)
    return held and isinstance(line.value, ast.Constant) and line.value.value is Ellipsis  # type: ignore[attr-defined]


def _body(answer: Answer) -> list[ast.stmt] | None:
    """The statements of a function but for its docstring; None where its source can't be had."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(answer)))
    except (OSError, SyntaxError, TypeError):
        return None
    first = tree.body[0]
    if not isinstance(first, ast.FunctionDef):
        return None
    return first.body[1:] if ast.get_docstring(first) is not None else first.body


def define_what_stands_below(answer: Answer) -> None:
    """Run the definitions that follow the answer in its cell of a notebook: a helper may stand below."""
    code = _code(answer)
    if code is None or Path(code.co_filename).exists():  # a file's own definitions are not ours to run
        return
    try:
        tree = ast.parse("".join(linecache.getlines(code.co_filename)))
    except SyntaxError:  # a cell with magic
        return
    for line in tree.body:
        helper = isinstance(line, ast.FunctionDef | ast.ClassDef | ast.Import | ast.ImportFrom)
        if not helper or line.lineno <= code.co_firstlineno:
            continue
        if any("exercise" in ast.unparse(mark) for mark in getattr(line, "decorator_list", ())):
            continue
        try:
            exec(compile(ast.Module([line], []), code.co_filename, "exec"), inspect.unwrap(answer).__globals__)
        except Exception:  # it will fail again, with its own message, when its turn comes
            return


def _code(answer: Answer) -> CodeType | None:
    inner = inspect.unwrap(answer)
    found = getattr(inner, "__code__", None) or getattr(type(inner).__call__, "__code__", None)
    return found if isinstance(found, CodeType) else None


# ---------------------------------------------------------------------------------------- where it went wrong


def place_of(error: BaseException | None, answer: Answer) -> str:
    """The line of the student's that raised, and the values of what it names; empty where no line of theirs did."""
    code = _code(answer)
    frames: list[TracebackType] = []
    trace = error.__traceback__ if error is not None else None
    while trace is not None:
        if code is not None and trace.tb_frame.f_code.co_filename == code.co_filename:
            frames.append(trace)
        trace = trace.tb_next
    if code is None or not frames:
        return ""
    frame, number = frames[-1].tb_frame, frames[-1].tb_lineno
    line = linecache.getline(code.co_filename, number).strip()
    words = dict.fromkeys(name.id for name in ast.walk(_parsed(line)) if isinstance(name, ast.Name))
    known = {name: frame.f_locals[name] for name in words if name in frame.f_locals}
    values = ", ".join(f"{name} = {_short(value)}" for name, value in known.items())
    return f"line {number - code.co_firstlineno + 1}: {line}" + (f"   with {values}" if values else "")


def _parsed(line: str) -> ast.AST:
    """A line as far as it can be read alone: the head of a loop gets a body."""
    for text in (line, f"{line} pass", f"if 1: pass\n{line} pass", line.rstrip(":,([{")):
        try:
            return ast.parse(text)
        except SyntaxError:
            continue
    return ast.Module([ast.Expr(ast.Name(word)) for word in line.replace("(", " ").split() if word.isidentifier()], [])


def _short(value: Any) -> str:
    if isinstance(value, Tensor | np.ndarray):
        kind = "tensor" if isinstance(value, Tensor) else "array"
        if np.prod(value.shape) <= 6:
            return f"{kind} {value.tolist()}"
        return f"{kind} of shape {tuple(value.shape)}, {str(value.dtype).removeprefix('torch.')}"
    if callable(value) and not isinstance(value, type):
        return getattr(value, "__name__", type(value).__name__)
    plain = " object at 0x" in repr(value)
    return type(value).__name__ if plain else reprlib.repr(value)


# ---------------------------------------------------------------------------------------- how long


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raise `TooLong` in this thread when time is up, and again, ever faster, until the block ends.

    Python code is stopped between two steps, on every system and in every thread; one call that never comes back
    (``input()``, a huge power) is not.
    """
    thread, done = threading.get_ident(), threading.Event()

    def interrupt(what: Any) -> None:
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), what)

    def watch() -> None:
        began = time.process_time()
        if done.wait(seconds):
            return
        if time.process_time() - began < seconds / 2 and done.wait(2 * seconds):  # others hold the machine: more time
            return
        pause = 0.0
        while not done.wait(pause):
            interrupt(ctypes.py_object(TooLong))
            pause = max(0.001, pause / 2) if pause else 1.0

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        while watcher is not None:
            try:
                done.set()
                watcher.join()
                interrupt(None)
                watcher = None  # type: ignore[assignment]
            except TooLong:  # raised just as the block ended
                continue
