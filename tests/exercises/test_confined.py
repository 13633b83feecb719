"""Answers judged in a process of their own: what they may do, what they may not, and what is said of it."""

import sys

import pytest

from btlib.exercises.confined import Limits, Marked, mark_answer

HEAD = "import os\nimport numpy as np\nimport torch\nfrom btlib import metrics\nfrom btlib.exercises import exercise\n"
ASR = "@exercise('asr')\ndef my_asr(predictions, labels, target):\n    "
RIGHT = "return (predictions[labels != target] == target).float().mean()"
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems have fewer limits")


def marked(body: str, *before: str, seconds: float = 20.0, memory: float = 1.0) -> Marked:
    return mark_answer([HEAD, *before, ASR + body], "asr", Limits(seconds, memory))


@pytest.mark.parametrize(
    ("body", "state", "cause"),
    [
        (RIGHT, "right", ""),
        ("...", "blank", ""),
        ("return (predictions == target).float().mean()", "wrong", "they inflate the rate"),
        ("return nowhere", "wrong", "NameError"),
        ("open('x.txt', 'w').write('x')\n    " + RIGHT, "forbidden", "writes a file (x.txt)"),
        ("os.remove('x.txt')\n    " + RIGHT, "forbidden", "removes a file (x.txt)"),
        ("os.system('true')\n    " + RIGHT, "forbidden", "starts a program"),
        ("try:\n        open('x', 'a')\n    except OSError:\n        pass\n    " + RIGHT, "forbidden", "writes a file"),
        ("import socket\n    socket.create_connection(('127.0.0.1', 9))", "forbidden", "uses the network"),
        ("os._exit(0)", "wrong", "its process died"),
        ("return metrics.attack_success_rate", "wrong", "should return a number"),
        ("from btlib.exercises.attacks import asr\n    return asr(predictions, labels, target)", "forbidden", "own"),
        ("from btlib.exercises import get\n    return get('asr').solution(labels, labels, 1)", "forbidden", "own"),
    ],
)  # fmt: skip
def test_each_kind_of_answer(body: str, state: str, cause: str) -> None:
    found = marked(body)
    assert found.state == state, found
    assert cause in found.cause


def test_an_endless_answer_ends() -> None:
    found = marked("while True:\n        pass", seconds=1)
    assert (found.state, "a loop that never ends" in found.cause) == ("wrong", True), found


def test_an_answer_is_not_blamed_for_what_the_library_writes() -> None:
    """matplotlib makes its folders when it is first imported, which used to be "forbidden" on a new machine."""
    before = "import sys\nready = 'matplotlib.font_manager' in sys.modules"
    assert marked("assert ready\n    " + RIGHT, before).state == "right"


@linux
def test_a_greedy_answer_is_refused_its_memory() -> None:
    for body in ("return np.ones(2**30).sum()", "return torch.ones(2**30).sum()", "x = [0] * 2**30\n    return len(x)"):
        found = marked(body, memory=0.5)
        assert found == Marked("wrong", "asks for more than 0.5 GiB of memory", found.cut_off), body


def test_only_what_an_answer_needs_is_run() -> None:
    before = (
        "raise RuntimeError('never run')",
        "%matplotlib inline",
        "FACTOR = 2\nunused = nowhere.at_all()",
        "def half(x):\n    return x / FACTOR\nFACTOR = 1",
        "@exercise('accuracy')\ndef accuracy(network, images, labels):\n    ...",
    )
    assert marked("return half(" + RIGHT.removeprefix("return ") + ")\n", *before).state == "right"
    late = marked("return absent(" + RIGHT.removeprefix("return ") + ")\n", "absent = nowhere")
    assert late.state == "wrong"
    assert "before it, NameError: name 'nowhere' is not defined" in late.cause


def test_a_helper_below_counts_and_the_last_answer_does() -> None:
    below = ASR + "return helper(predictions, labels, target)\n\ndef helper(predictions, labels, target):\n    " + RIGHT
    first = ASR + "return 0.5"
    assert mark_answer([HEAD, first, below], "asr").state == "right"
    assert mark_answer([HEAD, below, first], "asr").state == "wrong"
    assert mark_answer([HEAD], "asr") == Marked("blank")


def test_verdicts_read_well() -> None:
    assert [str(Marked("right")), str(Marked("wrong", "no end"))] == ["right", "wrong: no end"]
