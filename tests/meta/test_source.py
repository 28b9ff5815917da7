"""House rules that every source file keeps; each rule is one test over all of them."""

import ast
import io
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "scratchlm"
MODULES = sorted(SOURCE.rglob("*.py"))
ALL = [
    path
    for folder in ("src", "tests", "examples", "benchmarks")
    for path in sorted((ROOT / folder).rglob("*.py"))
]

FOREIGN_NAMES = {  # the words of others, and of older code; ours stand in the style guide
    "n_layer", "n_head", "n_embd", "n_kv_groups", "num_blocks", "block_size", "n_ctx", "idx",
    "hidden_size", "num_heads", "labels", "num_hidden_layers", "num_attention_heads",
}  # fmt: skip

Function = ast.FunctionDef | ast.AsyncFunctionDef


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def every(paths: list[Path]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("path", paths, ids=name_of)


def nodes(path: Path) -> Iterator[ast.AST]:
    yield from ast.walk(ast.parse(path.read_text("utf-8")))


@every(ALL)
def test_file_and_functions_are_short(path):
    lines = len(path.read_text("utf-8").splitlines())
    assert lines <= 400, f"{lines} lines: find the place to cut"
    for node in nodes(path):
        if isinstance(node, Function):
            length = (node.end_lineno or 0) - node.lineno + 1
            assert length <= 60, f"line {node.lineno}: {node.name} has {length} lines"


@every(MODULES)
def test_environment_is_read_in_one_place(path):
    if path == SOURCE / "base" / "runtime.py":
        return
    for node in nodes(path):
        if isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv", "putenv"):
            pytest.fail(f"line {node.lineno}: only base/runtime.py reads the environment")


@every(MODULES)
def test_no_process_is_forked(path):
    for node in nodes(path):
        forks = (isinstance(node, ast.Attribute) and node.attr in ("fork", "forkpty")) or (
            isinstance(node, ast.Constant) and node.value in ("fork", "forkserver")
        )
        assert not forks, "Windows and macOS cannot fork: use the default start method"


@every(MODULES)
def test_text_files_name_their_encoding(path):
    for node in nodes(path):
        if isinstance(node, ast.Call) and opens_text(node):
            given = {keyword.arg for keyword in node.keywords}
            assert given & {"encoding", None}, f"line {node.lineno}: encoding is left to chance"


def opens_text(call: ast.Call) -> bool:
    """Whether a call is open(), .open(), .read_text() or .write_text() without a binary mode."""
    name = getattr(call.func, "id", None) or getattr(call.func, "attr", None)
    if isinstance(call.func, ast.Attribute) and name in ("read_text", "write_text"):
        return len(call.args) <= (name == "write_text")
    if name != "open" or getattr(getattr(call.func, "value", None), "id", "") in ("os", "gzip"):
        return False
    values = [*call.args, *(keyword.value for keyword in call.keywords)]
    modes = [value.value for value in values if isinstance(value, ast.Constant)]
    return not any(isinstance(mode, str) and "b" in mode and len(mode) <= 3 for mode in modes)


@every(MODULES)
def test_code_speaks_the_words_of_the_style_guide(path):
    if path == SOURCE / "checkpoint" / "names.py" or path.parent.name == "formats":
        return
    for node in nodes(path):
        words = {getattr(node, field, None) for field in ("id", "attr", "arg", "name")}
        assert not words & FOREIGN_NAMES, f"line {getattr(node, 'lineno', '?')}: {words}"


@every(ALL)
def test_code_and_comments_are_ascii(path):
    for token in tokenize.generate_tokens(io.StringIO(path.read_text("utf-8")).readline):
        is_text = token.type == tokenize.STRING or "FSTRING" in tokenize.tok_name[token.type]
        assert is_text or token.string.isascii(), f"line {token.start[0]}: {token.string}"


@every(MODULES)
def test_docstrings_are_ascii_and_there(path):
    tree = ast.parse(path.read_text("utf-8"))
    if not tree.body:
        return
    for node in [tree, *public_definitions(tree)]:
        docstring = ast.get_docstring(node)
        assert docstring, f"{getattr(node, 'name', 'the module')} is public: say what it does"
        assert docstring.isascii()


def public_definitions(owner: ast.Module | ast.ClassDef) -> Iterator[Function | ast.ClassDef]:
    """Classes, functions and methods whose names do not begin with an underscore."""
    for node in owner.body:
        if isinstance(node, Function | ast.ClassDef) and not node.name.startswith("_"):
            if not is_declaration(node):
                yield node
            if isinstance(node, ast.ClassDef):
                yield from public_definitions(node)


def is_declaration(node: Function | ast.ClassDef) -> bool:
    """An overload, a setter, or a protocol's "...": the real function carries the words."""
    names = {getattr(d, "id", getattr(d, "attr", "")) for d in node.decorator_list}
    return bool(names & {"overload", "setter"}) or ast.unparse(node.body[-1]) == "..."
