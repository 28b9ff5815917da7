"""tokenizer.json files made to harm: each is a clear error that names the file."""

import contextlib
import json
import subprocess
import sys

import pytest

from scratchlm.base.errors import CheckpointError, DataError, UserError
from scratchlm.tokenizer import definition as definition_module
from scratchlm.tokenizer.tokenizer import Tokenizer

REPLACE = {"type": "Replace", "content": "x"}
SPLIT = {"type": "Split", "behavior": "Isolated", "invert": False}
DEEP = "[" * 100_000


def small(**changes: object) -> dict:
    """A byte-level tokenizer of three tokens with some sections changed."""
    model = {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": [["a", "b"]]}
    decoder = {
        "type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True
    }  # fmt: skip
    return {"version": "1.0", "added_tokens": [], "decoder": decoder, "model": model, **changes}


def load(folder, content: object) -> Tokenizer:
    text = content if isinstance(content, str) else json.dumps(content)
    (folder / "tokenizer.json").write_text(text, encoding="utf-8")
    return Tokenizer.load(folder)


def test_small_one_is_fine(tmp_path):
    assert load(tmp_path, small()).encode("aab") == [0, 2]


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "null",
        DEEP,
        '{"model": ' + DEEP,
        "{}",
        {"model": []},
        small(model={"type": "WordPiece", "vocab": {}}),
        small(model={"type": "BPE"}),
        small(model={"type": "BPE", "vocab": {"a": 10**12}, "merges": []}),
        small(model={"type": "BPE", "vocab": {"a": -1}, "merges": []}),
        small(model={"type": "BPE", "vocab": {"a": "b"}, "merges": []}),
        small(model={"type": "BPE", "vocab": {"a": 0}, "merges": [["x", "y"]]}),
        small(model={"type": "Unigram", "vocab": [["a", 0.0]], "unk_id": 5}),
        small(model={"type": "Unigram", "vocab": [[1, 2, 3]], "unk_id": 0}),
        small(model={"type": "WordLevel", "vocab": {"a": 0}}),
        small(added_tokens={"a": 1}),
        small(added_tokens=[{"id": 1}]),
        small(added_tokens=[{"id": 10**12, "content": "x"}]),
        small(added_tokens=[{"id": 1, "content": ""}]),
        small(normalizer={"type": "Nothing"}),
        small(normalizer=REPLACE | {"pattern": {"Regex": "("}}),
        small(pre_tokenizer={"type": "Sequence", "pretokenizers": 5}),
        small(decoder=None),
        small(decoder={"type": "WordPiece", "prefix": "##", "cleanup": True}),
        small(post_processor={"type": "TemplateProcessing", "single": [], "pair": 7}),
    ],
)
def test_unusable_file_is_named(tmp_path, content):
    with pytest.raises(CheckpointError, match=r"tokenizer\.json"):
        load(tmp_path, content)


@pytest.mark.parametrize(
    "content",
    [
        small(normalizer=REPLACE | {"pattern": {"String": ""}}),
        small(normalizer=REPLACE | {"pattern": {"Regex": ""}}),
        small(pre_tokenizer=SPLIT | {"pattern": {"Regex": "(a+)+$"}}),
        small(pre_tokenizer=SPLIT | {"pattern": {"Regex": ""}}),
    ],
)
def test_panic_while_encoding_is_an_error_of_ours(tmp_path, content):
    """Whatever happens is a UserError, never the library's PanicException."""
    with contextlib.suppress(UserError):
        load(tmp_path, content).encode("a" * 200 + "b")


def test_catastrophic_pattern_panics_without_harm(tmp_path):
    tokenizer = load(tmp_path, small(pre_tokenizer=SPLIT | {"pattern": {"Regex": "(a+)+$"}}))
    with pytest.raises(DataError, match=r"tokenizer\.json failed to encode the text"):
        tokenizer.encode("a" * 200 + "b")
    with pytest.raises(DataError, match="failed to encode"):
        tokenizer.encode_batch(["a" * 200 + "b"])


def test_padding_and_truncation_are_dropped(tmp_path):
    """A padding length of 10^12 aborts the process in the library itself."""
    padding = {
        "strategy": {"Fixed": 10**12}, "direction": "Right", "pad_to_multiple_of": None,
        "pad_id": 0, "pad_type_id": 0, "pad_token": "a",
    }  # fmt: skip
    truncation = {"max_length": 1, "strategy": "LongestFirst", "stride": 0, "direction": "Right"}
    tokenizer = load(tmp_path, small(padding=padding, truncation=truncation))
    assert tokenizer.encode("aab") == [0, 2]
    assert tokenizer.encode_batch(["aab", "a"]) == [[0, 2], [0]]


def test_large_file_is_refused_before_it_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(definition_module, "_MAX_FILE_BYTES", 50)
    with pytest.raises(CheckpointError, match=r"tokenizer.json has \d+ bytes; .* is refused"):
        load(tmp_path, small())


@pytest.mark.parametrize("config", ["[]", '{"scratchlm": 5}', "{"])
def test_damaged_config(tmp_path, config):
    (tmp_path / "tokenizer_config.json").write_text(config, encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"tokenizer_config\.json"):
        load(tmp_path, small())


def test_role_that_is_no_name(tmp_path, caplog):
    (tmp_path / "tokenizer_config.json").write_text('{"eos_token": ["a"]}', encoding="utf-8")
    assert load(tmp_path, small()).eos_id is None
    assert "names ['a'] as eos_token" in caplog.text


def test_kind_of_a_later_version(tmp_path):
    config = '{"scratchlm": {"kind": "quantum"}}'
    (tmp_path / "tokenizer_config.json").write_text(config, encoding="utf-8")
    with pytest.raises(CheckpointError, match="kind 'quantum'"):
        load(tmp_path, small())


def test_ctrl_c_is_not_swallowed():
    with pytest.raises(KeyboardInterrupt), definition_module.no_panic(DataError, "x"):
        raise KeyboardInterrupt


def test_every_file_leaves_the_process_alive(tmp_path):
    """The worst known file, in a process of its own: an exit by our error, not by a signal."""
    padding = {"strategy": {"Fixed": 10**12}}
    (tmp_path / "tokenizer.json").write_text(json.dumps(small(padding=padding)), encoding="utf-8")
    code = (
        "from scratchlm.tokenizer.tokenizer import Tokenizer; import sys; "
        "print(Tokenizer.load(sys.argv[1]).encode('ab'))"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout.strip()) == (0, "[2]"), result.stderr
