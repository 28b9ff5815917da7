"""`import scratchlm`: lazy public functions, one for every verb."""

import ast
import inspect
from pathlib import Path

import pytest

import scratchlm

SOURCE = Path(scratchlm.__file__).parent
PACKAGES = {path.parent.name for path in SOURCE.glob("*/__init__.py")}


@pytest.mark.parametrize("name", [name for name in dir(scratchlm) if not name.startswith("_")])
def test_a_public_name_is_there_and_documented(name):
    value = getattr(scratchlm, name)
    assert inspect.getdoc(value)
    assert not inspect.ismodule(value)


def test_functions_are_verbs_and_packages_are_nouns():
    assert not PACKAGES & set(dir(scratchlm))


def test_editors_are_told_of_every_lazy_name():
    tree = ast.parse((SOURCE / "__init__.py").read_text("utf-8"))
    told = {
        alias.asname: f"{node.module.removeprefix('scratchlm.')}:{alias.name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module.startswith("scratchlm.")
        for alias in node.names
    }
    assert told == scratchlm._HOMES


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match=r"module 'scratchlm' has no attribute 'lode'"):
        scratchlm.lode  # noqa: B018
    assert not hasattr(scratchlm, "lode")
