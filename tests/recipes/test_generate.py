"""Prompts from anywhere, one continuation or many."""

import io
import subprocess
import sys
from pathlib import Path

import pytest

from scratchlm.base.errors import DataError
from scratchlm.generation.sampling import Sampling
from scratchlm.recipes.generate import generate, read_prompt
from scratchlm.recipes.load import LanguageModel, load

FEW = Sampling(max_new_tokens=12, seed=1)


@pytest.fixture(scope="module")
def model(model_folder: Path) -> LanguageModel:
    return load(model_folder, device="cpu")


def test_one_continuation_stands_behind_its_prompt(model: LanguageModel) -> None:
    out = io.StringIO()
    [text] = generate(model, "春眠", FEW, out=out)
    assert out.getvalue().removesuffix("\n") == ("春眠" + text).removesuffix("\n")
    assert len(text) == 12


def test_without_echo_only_the_continuation_is_written(
    model: LanguageModel, capsys: pytest.CaptureFixture[str]
) -> None:
    [text] = generate(model, "ab", FEW, echo=False)
    assert capsys.readouterr().out.removesuffix("\n") == text.removesuffix("\n")


def test_many_continuations_are_numbered(model: LanguageModel) -> None:
    out = io.StringIO()
    texts = generate(model, "ab", FEW, n=3, out=out)
    assert out.getvalue() == "".join(
        f"--- {i} of 3 ---\nab{text}\n\n" for i, text in enumerate(texts, start=1)
    )
    assert len(set(texts)) == 3
    assert generate(model, "ab", FEW, out=io.StringIO()) == texts[:1]


def test_an_empty_prompt_starts_a_text(
    model: LanguageModel, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    [text] = generate(model, "", FEW, out=io.StringIO())
    assert len(text) == 12
    assert r"the prompt is empty: starting from '\n\n'" in caplog.text


def test_prompts_come_from_text_file_and_stdin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "prompt.txt"
    file.write_bytes("\ufeff春眠\n\n".encode())
    assert read_prompt(f"FILE:{file}") == "春眠\n"
    assert read_prompt("plain") == "plain"
    monkeypatch.setattr(sys, "stdin", io.StringIO("不觉晓\n"))
    assert read_prompt("-") == "不觉晓"


def test_prompts_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"absent\.txt cannot be read: No such file"):
        read_prompt(f"FILE:{tmp_path / 'absent.txt'}")
    file = tmp_path / "latin.txt"
    file.write_bytes(b"caf\xe9 au lait")
    with pytest.raises(DataError, match=r"latin\.txt is not UTF-8 at byte 3"):
        read_prompt(f"FILE:{file}")


def test_a_character_the_model_does_not_know_is_named(model: LanguageModel) -> None:
    with pytest.raises(DataError, match=r"'z' \(U\+007A\) at position 2"):
        generate(model, "abz", FEW)


def test_generation_imports_nothing_heavy(model_folder: Path) -> None:
    """The first token must come soon: what is slow to import and not needed stays out."""
    heavy = "torch._dynamo rich tyro prompt_toolkit sentencepiece pyarrow transformers matplotlib"
    code = (
        "import sys; from scratchlm.recipes.generate import generate\n"
        "from scratchlm.recipes.load import load\n"
        "generate(load(sys.argv[1], device='cpu'), 'ab', out=sys.stderr)\n"
        f"print([name for name in {heavy.split()!r} if name in sys.modules])"
    )
    command = [sys.executable, "-X", "utf8", "-c", code, str(model_folder)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=True)
    assert done.stdout.strip() == "[]"
