"""The house: a package imports only from rows below its own (docs/ARCHITECTURE.md)."""

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "scratchlm"

ROWS = [  # from the ground up; packages in one row do not know each other
    {"base"},
    {"native"},
    {"tokenizer", "web", "cleaning", "report", "extraction"},
    {"model", "data", "corpus"},
    {"checkpoint", "examples"},
    {"formats", "training", "generation"},
    {"evaluation"},
    {"recipes", "serving", "studio"},
    {"cli"},
]
HEIGHT = {package: height for height, row in enumerate(ROWS) for package in row}

# Libraries that may be imported inside a function, beside those of the extras.
LATE = {
    "resource": "absent on Windows",
    "lxml": "what trafilatura brings",
    "rich": "a tenth of a second, which only a terminal needs",
    "prompt_toolkit": "only an interactive chat needs it",
    "huggingface_hub": "a third of a second, which only a download needs",
    "llama_cpp": "what the extra llama-cpp installs as llama-cpp-python",
}
# The second takes half a second, which only runs on several processes need.
LATE_OF_TORCH = ("torch.utils.tensorboard", "torch.distributed.")
MODULES = sorted(SOURCE.rglob("*.py"))


def package_of(path: Path) -> str:
    """The package of a source file; "" for scratchlm's own __init__.py and __main__.py."""
    inside = path.relative_to(SOURCE).parts
    return inside[0] if len(inside) > 1 else ""


def imports(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Every module that is imported below a node, with its line; "from a import b" is a.b."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((name.name, node.lineno) for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: relative imports hide the package"
            yield from ((f"{node.module}.{name.name}", node.lineno) for name in node.names)


def breaches(path: Path, text: str) -> list[str]:
    """What a source file imports against the rows, each with its line."""
    package = package_of(path)
    found = []
    for name, line in imports(ast.parse(text)):
        parts = name.split(".")
        if parts[0] != "scratchlm" or package == "" or parts[1:2] in ([package], ["__version__"]):
            continue
        if len(parts) == 1:
            found.append(f"line {line}: import what you need, not the whole of scratchlm")
        elif parts[1] not in HEIGHT:
            found.append(f"line {line}: {name} is in no row of the house")
        elif HEIGHT[parts[1]] >= HEIGHT[package]:
            found.append(f"line {line}: {package} may not import {name}, which is not below it")
    return found


def optional_libraries() -> set[str]:
    """The import names of the libraries in pyproject.toml's extras."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    needed = [need for needs in extras["optional-dependencies"].values() for need in needs]
    return {re.split(r"[\[<>=~ ]", need)[0].replace("-", "_") for need in needed}


def hidden(path: Path, text: str) -> list[str]:
    """Imports inside functions that have no reason to be there, each with its line."""
    if package_of(path) in ("", "cli"):
        return []
    allowed = optional_libraries() | set(LATE)
    found = []
    for function in ast.walk(ast.parse(text)):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            for name, line in imports(function):
                late = name.startswith(LATE_OF_TORCH) or name.split(".")[0] in allowed
                if not late or name.startswith("scratchlm"):
                    found.append(f"line {line}: {name} is imported inside {function.name}")
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(SOURCE).as_posix())
def test_imports_only_what_lies_below(path):
    text = path.read_text("utf-8")
    assert not breaches(path, text) + hidden(path, text)


@pytest.mark.parametrize(
    ("package", "line", "wrong"),
    [
        ("model", "from scratchlm.base.errors import DataError", False),
        ("model", "import scratchlm.model.cache", False),
        ("recipes", "from scratchlm import __version__", False),
        ("model", "from scratchlm.data.rows import Batch", True),  # sideways
        ("base", "import scratchlm.tokenizer.tokenizer", True),  # up
        ("training", "from scratchlm.recipes import load", True),
        ("training", "from scratchlm import load", True),  # up, through the lazy names
        ("training", "import scratchlm", True),  # likewise
        ("model", "from scratchlm.attic.old import junk", True),
        ("model", "def f():\n    from scratchlm.base.errors import DataError", True),  # hidden
        ("model", "def f():\n    import numpy", True),
        ("training", "def f():\n    import wandb", False),
        ("cli", "def f():\n    from scratchlm.recipes.load import load", False),
    ],
)
def test_the_check_itself(package, line, wrong):
    path = SOURCE / package / "new.py"
    assert bool(breaches(path, line) + hidden(path, line)) == wrong


def test_imports_by_name_are_left_to_the_lazy_doors():
    doors = {SOURCE / "__init__.py", SOURCE / "cli" / "main.py"}
    for path in set(MODULES) - doors:
        assert not re.search(r"import_module|__import__", path.read_text("utf-8")), path


def test_a_module_lies_in_a_package_and_never_deeper():
    for path in MODULES:
        depth = len(path.relative_to(SOURCE).parts)
        assert depth == 2 or (depth == 1 and path.name in ("__init__.py", "__main__.py")), path
        assert package_of(path) in {"", *HEIGHT}, path
        assert depth == 1 or path.name != "__init__.py" or not path.read_text("utf-8"), path
