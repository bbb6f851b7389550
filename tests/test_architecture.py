"""The tree is the architecture: imports go one way, public names are pinned, nothing heavy loads before it is used."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import firstlight

SOURCE = Path(firstlight.__file__).parent
LAYERS = [
    "__main__",
    "cli",
    "integrations",
    "testing",
    "monitor",
    "report",
    "doctor",
    "bench",
    "race",
    "diagnose",
    "learning_rates",
    "signal",
    "checkpoint",
    "plan",
    "calibrate",
    "apply",
    "recipes",
    "model",
    "init",
    "random",
    "files",
    "errors",
    "_version",
]


def layer(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imported(tree: ast.AST) -> set[str]:
    """Return the layers a module imports, wherever in it the import stands."""
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, "relative import"
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return {name.split(".")[1] for name in names if name.startswith("firstlight.")} & set(LAYERS)


def upward(layer_name: str, source: str) -> set[str]:
    rank = LAYERS.index(layer_name)
    return {name for name in imported(ast.parse(source)) if LAYERS.index(name) < rank}


MODULES = sorted(path for path in SOURCE.rglob("*.py") if path != SOURCE / "__init__.py")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_go_only_down_the_layers(path: Path) -> None:
    assert upward(layer(path), path.read_text()) == set()


def test_the_layer_checker_sees_an_upward_import() -> None:
    assert upward("init", "def f():\n    from firstlight.plan import plan") == {"plan"}
    assert upward("init", "from firstlight import plan, random") == {"plan"}
    assert upward("plan", "import firstlight.random.fill") == set()


def test_every_module_says_what_belongs_in_it() -> None:
    assert [
        path for path in [SOURCE / "__init__.py", *MODULES] if not ast.get_docstring(ast.parse(path.read_text()))
    ] == []


def test_public_names_are_pinned() -> None:
    assert sorted(firstlight.__all__) == firstlight.__all__
    assert set(firstlight.__all__) == {
        "Checkup",
        "Created",
        "Diagnosis",
        "Finding",
        "Monitor",
        "Plan",
        "RaceResult",
        "Recipe",
        "Signals",
        "__version__",
        "compose",
        "create",
        "diagnose",
        "doctor",
        "errors",
        "gain",
        "init",
        "initialize",
        "keep",
        "learning_rates",
        "measure",
        "plan",
        "predict",
        "race",
        "random",
        "testing",
        "verify",
    }
    for name in firstlight.__all__:
        assert getattr(firstlight, name) is not None


def test_functions_are_not_hidden_by_modules_of_the_same_name() -> None:
    code = (
        "import firstlight.plan, firstlight.diagnose.finding, firstlight.race.result, firstlight.doctor\n"
        "import firstlight as fl\n"
        "assert all(callable(f) for f in (fl.plan, fl.diagnose, fl.race, fl.doctor))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'plans'"):
        _ = firstlight.plans


def test_nothing_heavy_loads_before_it_is_used() -> None:
    """Numba, scikit-learn, plotly and the like load inside the functions that use them; torch when a name needs it."""
    code = (
        "import sys, firstlight\n"
        "assert 'torch' not in sys.modules\n"
        "import torch\n"
        "before = set(sys.modules)\n"
        "[getattr(firstlight, name) for name in firstlight.__all__]\n"
        "heavy = {'numba', 'sklearn', 'plotly', 'jinja2', 'rich', 'typer', 'scipy', 'pandas', 'jax', 'keras'}\n"
        "print(sorted(heavy & (set(sys.modules) - before)))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"
