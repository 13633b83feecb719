"""Lessons in somebody else's Jupyter: links to Colab, Kaggle and Binder, and the copies that those open.

The public address is one setting: ``$BTLIB_REPOSITORY``, "owner/name" on GitHub; there, workflows know it themselves.
"""

import os
import re
from copy import deepcopy

import nbformat

from btlib.cli.lessons import LessonError

BRANCH = "cloud"  # holds the copies; .github/workflows/site.yml fills it
SETUP = """\
# In the cloud: fetches the course and installs btlib; torch, torchvision and numpy stay as they are.
import os
import subprocess
import sys
from importlib import metadata, util

if util.find_spec("btlib") is None:
    if not os.path.exists("btlib-course"):
        fetch = ["git", "clone", "--quiet", "--depth", "1", "SOURCE", "btlib-course"]
        subprocess.run(fetch, check=True)
    there = {each.name.lower(): each.version for each in metadata.distributions()}
    kept = [f"{name}=={there[name]}" for name in ("torch", "torchvision", "numpy") if name in there]
    wanted = ["./btlib-course", "ipywidgets", "nbformat", "pandas", *kept]
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", *wanted], check=True)
if os.path.exists("btlib-course/notebooks"):
    os.chdir("btlib-course/notebooks")"""


def repository() -> str | None:
    """The public repository, "owner/name"; None where no setting says it.

    Raises:
        LessonError: a setting that is no such name.
    """
    named = os.environ.get("BTLIB_REPOSITORY") or os.environ.get("GITHUB_REPOSITORY")
    if named and not re.fullmatch(r"[\w.-]+/[\w.-]+", named):
        raise LessonError(f"BTLIB_REPOSITORY: expected owner/name, got {named!r}; leave the server's address out")
    return named or None


def links(public: str, lesson: str) -> dict[str, str]:
    """Where each service opens a lesson.

    Args:
        public: the repository, "owner/name".
        lesson: the lesson's name, such as "02_training".
    """
    copy = f"{public}/blob/{BRANCH}/{lesson}.ipynb"
    return {
        "Colab": f"https://colab.research.google.com/github/{copy}",
        "Kaggle": f"https://kaggle.com/kernels/welcome?src=https://github.com/{copy}",
        "Binder": f"https://mybinder.org/v2/gh/{public}/main?labpath=notebooks%2F{lesson}.ipynb",
    }


def cloud_copy(lesson: nbformat.NotebookNode, source: str) -> nbformat.NotebookNode:
    """A lesson that begins with a folded cell which installs btlib where it is missing.

    Args:
        lesson: stays as it is.
        source: where git fetches the repository from, such as "https://github.com/owner/name".
    """
    copy = deepcopy(lesson)
    folded = {"jupyter": {"source_hidden": True}, "cellView": "form", "tags": ["setup"]}  # cellView: Colab's word
    cell = nbformat.v4.new_code_cell(SETUP.replace("SOURCE", source), metadata=folded, id="cloud-setup")
    copy.cells.insert(1, cell)
    return copy
