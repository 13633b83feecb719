"""An answer that somebody handed in, judged in a process of its own with limits.

What is kept from it: more than its time and memory; the network (by the system where that lets us, else by Python);
files it would write, remove or rename; programs it would start. What is not: it runs as the user who marks, reads
what that user reads, and code made to break out of Python (ctypes, a bug in a library) breaks out. Mark unknown
people's work in a container or on a machine that holds nothing else.
"""

import ctypes
import importlib
import json
import linecache
import multiprocessing
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from btlib.exercises.core import SECONDS, get, judge
from btlib.exercises.slices import Answer, answer_in, taken_from_the_library

SETUP_S = 60.0  # for the cells that an answer needs
_NETWORKS_OF_ITS_OWN = 0x10000000 | 0x40000000  # CLONE_NEWUSER, CLONE_NEWNET
_LARGEST = 1 << 20  # bytes of a verdict
_DRAWS = "matplotlib.font_manager"  # writes its folders and its list of fonts when it is first imported
_FORBIDDEN = {
    "socket.connect": "uses the network", "socket.bind": "uses the network", "socket.getaddrinfo": "uses the network",
    "socket.sendto": "uses the network", "subprocess.Popen": "starts a program", "os.system": "starts a program",
    "os.exec": "starts a program", "os.posix_spawn": "starts a program", "os.spawn": "starts a program",
    "os.fork": "starts a program", "os.forkpty": "starts a program", "pty.spawn": "starts a program",
    "os.kill": "stops a program", "os.remove": "removes a file", "os.rmdir": "removes a folder",
    "os.rename": "renames a file", "os.mkdir": "makes a folder", "os.link": "makes a file",
    "os.symlink": "makes a file",
    "os.truncate": "changes a file", "os.chmod": "changes a file", "shutil.rmtree": "removes a folder",
}  # fmt: skip


@dataclass(frozen=True)
class Limits:
    """What one answer may take.

    Attributes:
        seconds: for its check.
        memory_gib: beyond what the library itself takes.
    """

    seconds: float = SECONDS
    memory_gib: float = 2.0


@dataclass(frozen=True)
class Marked:
    """What came of one answer.

    Attributes:
        state: "right", "wrong", "blank" or "forbidden".
        cause: why it is not right; empty where it is, and where it is blank.
        cut_off: whether the system itself kept it from the network.
    """

    state: str
    cause: str = ""
    cut_off: bool = False

    def __str__(self) -> str:
        return f"{self.state}: {self.cause}" if self.cause else self.state


def mark_answer(cells: Sequence[str], name: str, limits: Limits | None = None) -> Marked:
    """Judge the answer to one exercise in a notebook, in a process of its own.

    Args:
        cells: sources of all code cells, in order. Of those before the answer only what it needs is run.
        name: the exercise.
        limits: of the process; default: `Limits()`.
    """
    limits = limits or Limits()
    answer = answer_in(cells, name)
    if answer is None:
        return Marked("blank")
    method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    context: Any = multiprocessing.get_context(method)
    if method == "forkserver":  # torch is imported once, and each answer gets a fresh copy of that process
        context.set_forkserver_preload(["btlib.exercises", _DRAWS])
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_judge_confined, args=(theirs, answer, name, limits), daemon=True)
    process.start()
    theirs.close()
    try:
        return _verdict(ours, 3 * limits.seconds + SETUP_S, limits)
    finally:
        process.kill()
        process.join()
        ours.close()


def _verdict(connection: Connection, seconds: float, limits: Limits) -> Marked:
    """What the process says, which is text and never unpickled."""
    if not connection.poll(seconds):
        return Marked("wrong", f"no end within {seconds:g} seconds")
    try:
        said = json.loads(connection.recv_bytes(_LARGEST))
        return Marked(str(said["state"]), str(said["cause"]), bool(said["cut_off"]))
    except (EOFError, OSError, ValueError, KeyError, TypeError):
        return Marked("wrong", f"its process died: more than {limits.memory_gib:g} GiB of memory, or a crash")


# ---------------------------------------------------------------------------------------- inside the process


def _judge_confined(connection: Connection, answer: Answer, name: str, limits: Limits) -> None:
    importlib.import_module(_DRAWS)  # else an answer that draws would be blamed for its files
    done: list[str] = []
    cut_off = _confine(limits, done)
    try:
        state, cause = _judge(answer, name, limits)
    except MemoryError:
        state, cause = "wrong", f"asks for more than {limits.memory_gib:g} GiB of memory"
    if done:
        state, cause = "forbidden", done[0]
    connection.send_bytes(json.dumps({"state": state, "cause": cause, "cut_off": cut_off}).encode())


def _judge(answer: Answer, name: str, limits: Limits) -> tuple[str, str]:
    names: dict[str, Any] = {"__name__": "__answer__"}
    problem = ""
    for place, text in answer.sources.items():
        linecache.cache[place] = (len(text), None, text.splitlines(keepends=True), place)
    for place, line in answer.lines:
        try:
            exec(compile(line, place, "exec"), names)
        except Exception as error:  # what misses it will say so; else it was not needed
            problem = problem or f"; before it, {type(error).__name__}: {error}"
        for other, exercise in answer.others.items():
            names[other] = get(exercise).solution
    if answer.function not in names:
        return "wrong", f"its cell fails{problem}"
    taken = taken_from_the_library(answer, names, get(name).solution)
    if taken:
        return "forbidden", f"takes the library's own solution ({taken})"
    outcome = judge(name, names[answer.function], limits.seconds)
    if outcome.mistake is None:
        return outcome.state, ""
    if "allocate memory" in str(outcome.mistake.got) or "MemoryError" in str(outcome.mistake.got):
        return "wrong", f"asks for more than {limits.memory_gib:g} GiB of memory"
    cause = " ".join(outcome.mistake.cause.split())
    broken = problem if "NameError" in str(outcome.mistake.got) else ""
    return "wrong", f"{cause} (expected {outcome.mistake.expected}, got {outcome.mistake.got}{broken})"


def _confine(limits: Limits, done: list[str]) -> bool:
    """Set the limits; what is refused is added to `done`. Whether the system took the network away."""
    sys.dont_write_bytecode = True
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)
    cut_off = _unshared()
    try:
        import resource
    except ImportError:  # Windows
        pass
    else:
        import psutil

        room = psutil.Process().memory_info().vms + int(limits.memory_gib * 2**30)
        cpu = int(3 * limits.seconds + SETUP_S)
        for what, most in ((resource.RLIMIT_AS, room), (resource.RLIMIT_CPU, cpu), (resource.RLIMIT_FSIZE, 0)):
            try:
                resource.setrlimit(what, (most, most))
            except (ValueError, OSError):  # macOS has no limit of memory
                continue

    def refuse(event: str, arguments: tuple[Any, ...]) -> None:
        words = _FORBIDDEN.get(event)
        if event == "open" and _writes(arguments[1], arguments[2]) and arguments[0] != os.devnull:
            words = "writes a file"
        if words is not None:
            shown = arguments[0] if arguments and isinstance(arguments[0], str | bytes) else event
            done.append(f"{words} ({shown!s})")
            raise PermissionError(f"not allowed while answers are marked: {done[-1]}")

    sys.addaudithook(refuse)
    return cut_off


def _writes(mode: object, flags: object) -> bool:
    if isinstance(mode, str):
        return any(letter in mode for letter in "wax+")
    return isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))


def _unshared() -> bool:
    """Leave the network; False where the system has no such thing or does not let us."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        return ctypes.CDLL(None).unshare(_NETWORKS_OF_ITS_OWN) == 0
    except (AttributeError, OSError):
        return False
