"""`import btlib` is quick and sets the machine up before torch is loaded; heavy packages come when they are used."""

import os
import subprocess
import sys

import pytest

HEAVY = ("torchvision", "sklearn", "pandas", "matplotlib", "seaborn", "skimage", "scipy", "IPython", "ipywidgets",
         "nbformat", "jupyter_client", "traitlets", "onnx", "keras", "transformers", "timm")  # fmt: skip


def _run(code: str, **environment: str) -> str:
    inherited = {k: v for k, v in os.environ.items() if k != "OMP_WAIT_POLICY"}
    done = subprocess.run([sys.executable, "-c", code], env=inherited | environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_waiting_threads_give_their_core_away() -> None:
    assert _run("import btlib, os; print(os.environ['OMP_WAIT_POLICY'])") == "passive"


def test_the_users_own_policy_stands() -> None:
    assert _run("import btlib, os; print(os.environ['OMP_WAIT_POLICY'])", OMP_WAIT_POLICY="active") == "active"


@pytest.mark.parametrize("module", ["btlib", "btlib.cli.app"])
def test_neither_the_library_nor_its_commands_load_torch(module: str) -> None:
    assert _run(f"import {module}, sys; print([m for m in {('torch', *HEAVY)} if m in sys.modules])") == "[]"


def test_the_library_loads_nothing_heavy_before_it_is_used() -> None:
    modules = ("datasets", "triggers", "networks", "poisoning", "training", "metrics", "detection", "results", "resume",
               "inflight", "testing")  # fmt: skip
    seen = (*HEAVY, "torch._dynamo")  # as long to import as torch itself
    found = _run(f"""
import sys
from importlib import import_module
for module in {modules}:
    import_module(f"btlib.{{module}}")
    print(module, *(name for name in {seen} if name in sys.modules))
from btlib import checkpoints, datasets, detection
x, y = datasets.load("fashion-mnist").clean_images(8)
detection.RedU()(checkpoints.load_or_train(checkpoints.shipped()["box"]), x, y)
print("a detection", *(name for name in {seen} if name in sys.modules and name != "scipy"))""")
    assert found.splitlines() == [*modules, "a detection"]


def test_widgets_without_ipywidgets_say_what_to_install() -> None:
    said = _run("""
import sys
sys.modules["ipywidgets"] = None
try:
    from btlib import widgets
except ModuleNotFoundError as error:
    print(error)""")
    assert said == ("widgets: expected ipywidgets, which btlib[course] brings, got none; "
                    "python -m pip install 'btlib[course]'")  # fmt: skip


def test_modules_are_found_by_name_and_a_wrong_name_is_explained() -> None:
    assert _run("import btlib; print(btlib.profiles.profile('fast').name)") == "fast"
    assert "its modules are datasets" in _run(
        "import btlib\ntry: btlib.nonsense\nexcept AttributeError as error: print(error)"
    )
