"""The shape of the house: imports never point up, everything public is described, tried and typed."""

import ast
import re
import sys
from graphlib import TopologicalSorter
from inspect import Parameter, signature
from pathlib import Path
from statistics import median

import pytest

from btlib import detection, inflight

LIBRARY = Path(__file__).parents[1] / "btlib"
FLOORS = [
    {"files", "locks", "memory", "paths", "peak_memory", "profiles", "registry", "seeds"},
    {"datasets", "triggers", "networks", "results", "resume", "sealed"},
    {"detection", "metrics", "poisoning", "training"},
    {"inflight", "checkpoints", "repair"},
    {"plots", "attacks", "testing"},
    {"widgets", "papers"},
    {"cli", "exercises", "__main__"},
]
DETECTOR_DOORS = {
    "NeuralCleanse", "MaskRedA", "MaskRedP", "RedA", "RedU", "RedP", "neural_cleanse", "mask_red_a", "red_a", "red_u",
    "red_p", "LikelihoodDetector", "NeuronDetector", "B3DDetector", "StripDetector",
    "ScaleUpDetector", "CapsDetector",
}  # fmt: skip
FLOOR = {part: floor for floor, parts in enumerate(FLOORS) for part in parts}
TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(LIBRARY.rglob("*.py"))}
# `import btlib` is a door, not a floor: it imports a part when that is asked for.
INSIDE = {path: tree for path, tree in TREES.items() if path != LIBRARY / "__init__.py"}


def dotted(path: Path) -> str:
    parts = path.relative_to(LIBRARY.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {dotted(path): tree for path, tree in INSIDE.items()}


def imports(tree: ast.Module) -> set[str]:
    """Everything a module imports, functions' own imports included, as dotted names."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                assert alias.name.split(".")[0] != "btlib", (
                    "`import btlib` is a door to every floor: from btlib import …"
                )
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "a relative import hides which floor is meant"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def as_it_runs(tree: ast.Module) -> ast.Module:
    """Without what is imported for types only: two classes may mention one another."""
    body = [n for n in tree.body if not (isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING")]
    return ast.Module(body, [])


def own_imports(tree: ast.Module) -> set[str]:
    """The btlib modules among them; `from btlib.files import written_whole` is btlib.files."""
    own = set()
    for name in imports(tree):
        while name.startswith("btlib."):
            if name in MODULES:
                own.add(name)
                break
            name = name.rpartition(".")[0]
    return own


def part(module: str) -> str:
    return module.split(".")[1]


# ---------------------------------------------------------------------- imports


def test_every_module_has_a_floor() -> None:
    assert {part(module) for module in MODULES} <= set(FLOOR)


@pytest.mark.parametrize("module", MODULES)
def test_imports_never_point_up(module: str) -> None:
    for other in own_imports(MODULES[module]):
        assert FLOOR[part(other)] <= FLOOR[part(module)], f"{module} imports {other}, which stands above it"
        if {part(other), part(module)} <= FLOORS[0]:
            assert part(other) == part(module), "the ground floor imports nothing of btlib"


@pytest.mark.parametrize(
    "text",
    [
        "import btlib",
        "import os, btlib as b",
        "import btlib.files",
        "def f():\n    import btlib",
        "from . import files",
    ],
)
def test_an_import_that_hides_its_floor_is_refused(text: str) -> None:
    with pytest.raises(AssertionError, match="door to every floor|hides which floor"):
        own_imports(ast.parse(text))
    assert own_imports(ast.parse("from btlib import files\nfrom btlib.triggers import box")) == {
        "btlib.files",
        "btlib.triggers",
    }


def test_imports_make_no_circles() -> None:
    # A package's __init__ imports its own modules; they import each other, never the package.
    TopologicalSorter({module: own_imports(as_it_runs(tree)) - {module} for module, tree in MODULES.items()}).prepare()
    parts: dict[str, set[str]] = {}
    for module, tree in MODULES.items():
        parts.setdefault(part(module), set()).update(part(other) for other in own_imports(tree))
    TopologicalSorter({name: others - {name} for name, others in parts.items()}).prepare()


@pytest.mark.parametrize(
    ("package", "allowed"),
    [("matplotlib", {"plots", "widgets", "cli"}), ("seaborn", {"plots"}), ("ipywidgets", {"widgets"}),
     ("IPython", {"plots", "cli"}), ("typer", {"cli"})],
)  # fmt: skip
def test_who_may_import(package: str, allowed: set[str]) -> None:
    users = {part(m) for m, tree in MODULES.items() for name in imports(tree) if name.split(".")[0] == package}
    assert users <= allowed


def test_importing_btlib_stays_quick_and_parts_come_when_asked() -> None:
    import btlib

    tree = TREES[LIBRARY / "__init__.py"]
    assert imports(tree) <= {"os", "importlib.import_module", "typing.Any"}
    for name in btlib._MODULES:
        assert getattr(btlib, name) is sys.modules[f"btlib.{name}"]
    with pytest.raises(AttributeError, match="no attribute 'nonsense'; its modules are datasets"):
        _ = btlib.nonsense


@pytest.mark.parametrize("module", MODULES)
def test_no_printing_but_in_exercises_and_the_command_line(module: str) -> None:
    prints = [
        node.lineno
        for node in ast.walk(MODULES[module])
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert not prints or module == "btlib.exercises.core" or part(module) == "cli", f"print in lines {prints}"


@pytest.mark.parametrize("module", MODULES)
def test_no_assert_and_no_home_made_random_state(module: str) -> None:
    """User input is checked by errors with words; nothing seeds the caller's global generators."""
    for node in ast.walk(MODULES[module]):
        assert not isinstance(node, ast.Assert), f"line {node.lineno}: raise an error that says what to do"
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in ("np.random.seed", "random.seed"), f"line {node.lineno}: {called}"


# ---------------------------------------------------------------------- what is public

Function = ast.FunctionDef | ast.AsyncFunctionDef


def public_functions() -> list[tuple[str, Function]]:
    """Module-level functions, with the name of their module."""
    return [
        (module, node) for module, tree in MODULES.items() for node in tree.body
        if isinstance(node, Function) and not node.name.startswith("_")
    ]  # fmt: skip


def public_classes() -> list[tuple[str, ast.ClassDef]]:
    return [
        (module, node) for module, tree in MODULES.items() for node in tree.body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    ]  # fmt: skip


def public_methods() -> list[tuple[str, Function]]:
    return [
        (f"{module}.{owner.name}", node) for module, owner in public_classes() for node in owner.body
        if isinstance(node, Function) and not node.name.startswith("_")
    ]  # fmt: skip


def test_every_public_thing_has_a_docstring() -> None:
    modules = [name for name, tree in MODULES.items() if not ast.get_docstring(tree)]
    # What overrides a method of torch's is explained by its class.
    things = [*public_functions(), *public_classes(), *public_methods()]
    bare = [
        f"{where}.{node.name}"
        for where, node in things
        if not ast.get_docstring(node) and node.name not in ("forward", "extra_repr")
    ]
    assert modules + bare == []


def test_every_function_is_annotated() -> None:
    """All parameters and the result, private functions included (mypy checks that they are right)."""
    missing = []
    for module, tree in MODULES.items():
        for node in ast.walk(tree):
            if not isinstance(node, Function):
                continue
            arguments = [
                *node.args.posonlyargs,
                *node.args.args,
                *node.args.kwonlyargs,
                node.args.vararg,
                node.args.kwarg,
            ]
            bare = [a.arg for a in arguments if a and a.annotation is None and a.arg not in ("self", "cls")]
            if bare or node.returns is None:
                missing.append(f"{module}.{node.name}({', '.join(bare)})")
    assert missing == []


def without_example(node: Function) -> bool:
    return ">>>" not in (ast.get_docstring(node) or "") and len(node.body) > 3  # docstring and two statements: trivial


def offered() -> set[str]:
    """Names that packages hand out, and all words of lessons and documents: what a reader meets."""
    root = LIBRARY.parent
    pages = [*root.glob("notebooks/*.ipynb"), *root.glob("docs/*.md"), root / "README.md"]
    texts = [p.read_text(encoding="utf-8") for p in pages]
    doors = [tree for path, tree in TREES.items() if path.name == "__init__.py"]
    imported = {a.name for tree in doors for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) for a in n.names}
    return imported | set(re.findall(r"\w+", "\n".join(texts)))


def test_every_function_that_a_reader_meets_has_an_example() -> None:
    """A reader tries before reading. Trivial ones, commands and functions shown elsewhere are let off."""
    let_off = {
        "btlib.checkpoints.make_shipped",  # trains for minutes, and writes what is shipped
        "btlib.attacks.memory.make_shipped",  # likewise
        *(
            f"btlib.networks.{name}" for name in ("gtsrb_cnn", "lenet5", "littlenet", "torchvision_nets", "vgg")
        ),  # build
        *(module for module in MODULES if part(module) == "exercises" and module != "btlib.exercises.core"),  # lessons
    }
    names = offered()
    assert {"neural_cleanse", "box", "fit"} <= names
    lacking = [
        f"{module}.{node.name}" for module, node in public_functions()
        if node.name in names and without_example(node) and part(module) != "cli"
        and not {module, f"{module}.{node.name}"} & let_off
    ]  # fmt: skip
    assert lacking == []


def test_every_public_name_is_tested() -> None:
    """An untested public function is a defect: each name of the library occurs in some test.

    The command line's are tried through its commands (tests/cli), result classes through their fields.
    """
    texts = [path.read_text(encoding="utf-8") for path in Path(__file__).parent.rglob("*.py")]
    words = set(re.findall(r"\w+", "\n".join(texts)))
    things = [(where, node.name) for where, node in [*public_functions(), *public_methods()] if part(where) != "cli"]
    assert [f"{where}.{name}" for where, name in things if name not in words] == []


def test_every_module_has_its_tests() -> None:
    """tests/ mirrors btlib/: btlib/x.py has tests/test_x.py, a package has that or a folder of tests."""
    here = Path(__file__).parent
    lacking = [
        name for name in sorted({part(module) for module in MODULES} - {"__main__"})
        if not (here / f"test_{name}.py").exists() and not list((here / name).glob("test_*.py"))
    ]  # fmt: skip
    assert lacking == []


# ---------------------------------------------------------------------- sizes


def test_modules_are_read_in_one_sitting() -> None:
    lines = {str(path): len(path.read_text(encoding="utf-8").splitlines()) for path in TREES}
    assert {name: count for name, count in lines.items() if count > 300} == {}
    assert median(len(path.read_text(encoding="utf-8").splitlines()) for path in TREES) <= 130


def test_no_function_takes_more_than_six_things_by_their_place() -> None:
    crowded = []
    for module, tree in MODULES.items():
        for node in ast.walk(tree):
            if isinstance(node, Function):
                places = [a.arg for a in [*node.args.posonlyargs, *node.args.args] if a.arg not in ("self", "cls")]
                crowded += [f"{module}.{node.name}"] if len(places) > 6 else []
    assert crowded == []


def test_detectors_have_few_settings_in_their_signatures() -> None:
    """Five at most; the post-training ones pass what more there is on to their class."""
    detectors = [*vars(detection).values(), *vars(inflight).values()]
    own = [thing for thing in detectors if callable(thing) and getattr(thing, "__name__", "") in DETECTOR_DOORS]
    assert len(own) == len(DETECTOR_DOORS)
    for thing in own:
        kinds = [p.kind for p in signature(thing).parameters.values()]
        assert len([kind for kind in kinds if kind != Parameter.VAR_KEYWORD]) <= 5, thing.__name__


def test_tests_replace_little_and_nothing_private() -> None:
    texts = [path.read_text(encoding="utf-8") for path in Path(__file__).parent.rglob("*.py")]
    places = [line for text in texts for line in text.splitlines() if "monkeypatch." + "setattr(" in line]
    assert len(places) <= 30
    assert [line for line in places if re.search(r'[."]_\w', line)] == []
