"""`import btlib` is quick and sets the machine up before torch is loaded."""

import os
import subprocess
import sys


def _run(code: str, **environment: str) -> str:
    inherited = {k: v for k, v in os.environ.items() if k != "OMP_WAIT_POLICY"}
    done = subprocess.run([sys.executable, "-c", code], env=inherited | environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_waiting_threads_give_their_core_away() -> None:
    assert _run("import btlib, os; print(os.environ['OMP_WAIT_POLICY'])") == "passive"


def test_the_users_own_policy_stands() -> None:
    assert _run("import btlib, os; print(os.environ['OMP_WAIT_POLICY'])", OMP_WAIT_POLICY="active") == "active"


def test_import_loads_nothing_heavy() -> None:
    assert _run("import btlib, sys; print('torch' in sys.modules, 'matplotlib' in sys.modules)") == "False False"


def test_modules_are_found_by_name_and_a_wrong_name_is_explained() -> None:
    assert _run("import btlib; print(btlib.profiles.profile('fast').name)") == "fast"
    assert "its modules are datasets" in _run(
        "import btlib\ntry: btlib.nonsense\nexcept AttributeError as error: print(error)"
    )
