"""prepare: the same shards whatever the workers, nanoGPT's ids, and nothing half-written."""

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from scratchlm.base.errors import ConfigError, DataError
from scratchlm.base.files import read_manifest
from scratchlm.corpus import bundled
from scratchlm.corpus.pieces import cut_pieces
from scratchlm.data.shards import FORMAT, VERSION, open_shards
from scratchlm.native import bpe
from scratchlm.recipes import encode
from scratchlm.recipes import prepare as recipe
from scratchlm.recipes.prepare import PrepareConfig, prepare, prepare_sources
from scratchlm.tokenizer.config import TokenizerConfig
from scratchlm.tokenizer.gpt2 import gpt2_tokenizer
from scratchlm.tokenizer.tokenizer import Tokenizer
from scratchlm.tokenizer.train import train_tokenizer

PLAY = (
    "First Citizen:\nBefore we proceed any further, hear me speak.\n\nAll:\nSpeak, speak.\n\n" * 40
)
TANG = "床前明月光，疑是地上霜。\n举头望明月，低头思故乡。\n" * 40


@pytest.fixture(scope="module")
def gpt2() -> Tokenizer:
    return gpt2_tokenizer()


@pytest.fixture(scope="module")
def char() -> Tokenizer:
    return train_tokenizer([PLAY + TANG], TokenizerConfig(kind="char"))


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8", newline="\n")
    return path


def write_documents(path: Path, n: int) -> Path:
    lines = [json.dumps({"text": f"Document {i}. " + PLAY[: 50 + i % 300]}) for i in range(n)]
    return write(path, "\n".join(lines))


def ids_of(folder: Path, split: str) -> list[int]:
    opened = open_shards(folder, split)
    return opened.read(0, opened.n_tokens).tolist()


def test_one_text_becomes_nanogpts_train_and_val(tmp_path, char):
    path = write(tmp_path / "input.txt", PLAY)
    result = prepare([path], tmp_path / "out", char)
    index = {c: i for i, c in enumerate(sorted(set(PLAY + TANG)))}
    data, n = [index[c] for c in PLAY], len(PLAY)
    assert ids_of(tmp_path / "out", "train") == data[: int(n * 0.9)]
    assert ids_of(tmp_path / "out", "val") == data[int(n * 0.9) :]
    assert result.splits["train"].n_bytes + result.splits["val"].n_bytes == n


def test_tiny_shakespeare_equals_nanogpt(tmp_path):
    path = bundled.resolve("bundled:shakespeare")
    text = path.read_text(encoding="utf-8")
    char = train_tokenizer([text], TokenizerConfig(kind="char"))
    prepare([path], tmp_path / "out", char)
    index = {c: i for i, c in enumerate(sorted(set(text)))}
    data, n = [index[c] for c in text], len(text)
    assert ids_of(tmp_path / "out", "train") == data[: int(n * 0.9)]
    assert ids_of(tmp_path / "out", "val") == data[int(n * 0.9) :]


def test_an_end_token_closes_each_document(tmp_path, gpt2):
    for name in "aek":
        write(tmp_path / "in" / f"{name}.txt", f"Text {name}.")
    prepare([tmp_path / "in"], tmp_path / "out", gpt2, config=PrepareConfig(val_fraction=0))
    expected = [id for name in "aek" for id in [*gpt2.encode(f"Text {name}."), gpt2.eos_id]]
    assert ids_of(tmp_path / "out", "train") == expected
    assert open_shards(tmp_path / "out").n_documents == 3


def test_an_empty_line_stands_between_documents_of_characters(tmp_path, char):
    for name in "aek":
        write(tmp_path / "in" / f"{name}.txt", f"Speak {name}")
    prepare([tmp_path / "in"], tmp_path / "out", char, config=PrepareConfig(val_fraction=0))
    assert char.decode(ids_of(tmp_path / "out", "train")) == "Speak a\n\nSpeak e\n\nSpeak k"
    split = open_shards(tmp_path / "out")
    assert [split.document_span(i) for i in range(3)] == [(0, 9), (9, 18), (18, 25)]
    assert split.n_bytes == 3 * len("Speak a")


def test_a_beginning_token_can_stand_before_each_document(tmp_path):
    tok = train_tokenizer([PLAY], TokenizerConfig(kind="char", bos=True, eos=True))
    for name in "ae":
        write(tmp_path / "in" / f"{name}.txt", f"Speak {name}")
    config = PrepareConfig(val_fraction=0, bos=True)
    prepare([tmp_path / "in"], tmp_path / "out", tok, config=config)
    expected = tok.encode("Speak a", bos=True, eos=True) + tok.encode("Speak e", bos=True, eos=True)
    assert ids_of(tmp_path / "out", "train") == expected
    tok = train_tokenizer([PLAY], TokenizerConfig(kind="char"))
    with pytest.raises(ConfigError, match="char tokenizer has no beginning token"):
        prepare([tmp_path / "in"], tmp_path / "other", tok, config=config)


@pytest.mark.parametrize("kind", ["char", "bpe", "sentencepiece-bpe", "sentencepiece-unigram"])
def test_pieces_of_a_long_text_encode_like_the_whole(tmp_path, monkeypatch, kind):
    play, tang = (
        bundled.resolve(name).read_text(encoding="utf-8")[-40_000:]
        for name in ("bundled:shakespeare", "bundled:tang")
    )
    tok = train_tokenizer([play, tang], TokenizerConfig(kind=kind, vocab_size=3000))
    monkeypatch.setattr("scratchlm.corpus.read.cut_pieces", partial(cut_pieces, size=500))
    path = write(tmp_path / "a.txt", play + tang)
    prepare([path], tmp_path / "out", tok, config=PrepareConfig(val_fraction=0))
    expected = tok.encode(play + tang) + ([tok.eos_id] if tok.eos_id is not None else [])
    assert ids_of(tmp_path / "out", "train") == expected


@pytest.mark.parametrize("split", ["document", "tail"])
def test_any_workers_write_the_same_bytes(tmp_path, monkeypatch, gpt2, split):
    """Threads around compiled code; and processes, where the `tokenizers` library encodes."""
    monkeypatch.setattr(recipe, "_SMALL", 0)
    monkeypatch.setattr(encode, "_JOB", 5000)
    write_documents(tmp_path / "in" / "a.jsonl", 300)
    write(tmp_path / "in" / "b.txt", PLAY + TANG)
    made = []
    for compiled in (True, False):
        tokenizer = pickle.loads(pickle.dumps(gpt2))
        if not compiled:
            monkeypatch.setattr(bpe, "available", lambda: False)
            monkeypatch.setenv("SCRATCHLM_NATIVE", "off")  # for the processes
            assert tokenizer.fast is None
        for workers in (1, 2):
            config = PrepareConfig(split=split, workers=workers, shard_tokens=5000)
            out = tmp_path / f"{compiled}{workers}"
            prepare([tmp_path / "in"], out, tokenizer, config=config)
            files = [path for path in out.rglob("*") if path.is_file()]
            made.append({path.relative_to(out): path.read_bytes() for path in files})
    assert made[0] == made[1] == made[2] == made[3]
    assert sum(path.suffix == ".shard" for path in made[0]) > 4


def test_many_documents_are_drawn_for_validation(tmp_path, gpt2):
    path = write_documents(tmp_path / "a.jsonl", 400)
    result = prepare([path], tmp_path / "out", gpt2)
    assert 15 < result.splits["val"].n_documents < 70
    texts = {
        split: gpt2.decode(ids_of(tmp_path / "out", split)).split("<|endoftext|>")[:-1]
        for split in ("train", "val")
    }
    assert len(texts["train"]) + len(texts["val"]) == 400
    assert not set(texts["train"]) & set(texts["val"])


def test_the_folder_tells_what_it_is(tmp_path, gpt2):
    prepare([write(tmp_path / "a.txt", PLAY)], tmp_path / "out", gpt2)
    manifest = read_manifest(tmp_path / "out", FORMAT, VERSION)
    assert manifest["tokenizer_hash"] == gpt2.hash
    assert manifest["splits"]["train"]["n_documents"] == 1
    assert Tokenizer.load(tmp_path / "out").hash == gpt2.hash
    open_shards(tmp_path / "out", tokenizer_hash=gpt2.hash)


def test_sources_get_folders_of_their_own(tmp_path, gpt2):
    sources = {"play": [write(tmp_path / "a.txt", PLAY)], "tang": [write(tmp_path / "b.txt", TANG)]}
    result = prepare_sources(sources, tmp_path / "out", gpt2)
    assert sorted(result) == ["play", "tang"]
    assert open_shards(tmp_path / "out" / "tang", "val").n_tokens > 0
    with pytest.raises(ConfigError, match="cannot be the name of a folder"):
        prepare_sources({"../x": []}, tmp_path / "out", gpt2)


def test_progress_counts_bytes(tmp_path, gpt2):
    seen = []
    path = write(tmp_path / "a.txt", PLAY)
    prepare([path], tmp_path / "out", gpt2, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (len(PLAY), len(PLAY))


def test_unknown_words_are_counted(tmp_path, caplog):
    tok = train_tokenizer([PLAY], TokenizerConfig(kind="regex"))
    path = write(tmp_path / "a.txt", PLAY + "xyzzy plugh\n")
    result = prepare([path], tmp_path / "out", tok, config=PrepareConfig(val_fraction=0))
    assert result.n_unknown == 2
    assert "2 of" in caplog.text


@pytest.mark.parametrize("workers", [1, 2])
def test_a_character_outside_the_vocabulary_names_the_document(tmp_path, monkeypatch, workers):
    monkeypatch.setattr(recipe, "_SMALL", 0)
    config = PrepareConfig(workers=workers)
    tok = train_tokenizer([PLAY], TokenizerConfig(kind="char"))
    with pytest.raises(DataError, match=r"a\.txt: .*'床'"):
        prepare([write(tmp_path / "a.txt", TANG)], tmp_path / "out", tok, config=config)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("config", "text", "message"),
    [
        (PrepareConfig(), " \n", r"nothing is left for the train split"),
        (PrepareConfig(split="document"), "one text", r"nothing is left for the \w+ split"),
    ],
)
def test_too_little_text_is_refused(tmp_path, gpt2, config, text, message):
    with pytest.raises(DataError, match=message):
        prepare([write(tmp_path / "a.txt", text)], tmp_path / "out", gpt2, config=config)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.txt"]


def test_folders_in_use_are_left_alone(tmp_path, gpt2):
    path = write(tmp_path / "a.txt", PLAY)
    mine = write(tmp_path / "mine" / "thesis.txt", "precious")
    with pytest.raises(ConfigError, match="was not made by prepare"):
        prepare([path], mine.parent, gpt2, config=PrepareConfig(overwrite=True))
    prepare([path], tmp_path / "out", gpt2)
    with pytest.raises(ConfigError, match=r"Replace it with --overwrite"):
        prepare([path], tmp_path / "out", gpt2)
    path.write_text(PLAY[:900], encoding="utf-8")
    result = prepare([path], tmp_path / "out", gpt2, config=PrepareConfig(overwrite=True))
    assert open_shards(tmp_path / "out").n_tokens == result.splits["train"].n_tokens
    assert mine.read_text(encoding="utf-8") == "precious"


def test_bad_settings_are_refused():
    for settings, message in [
        ({"val_fraction": 1.0}, r"prepare\.val_fraction = 1\.0 must be in \[0, 1\)"),
        ({"workers": -1}, r"prepare\.workers = -1"),
        ({"shard_tokens": 0}, r"prepare\.shard_tokens = 0"),
    ]:
        with pytest.raises(ConfigError, match=message):
            PrepareConfig(**settings)


def test_a_full_disk_is_said_plainly(tmp_path, gpt2, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("scratchlm.data.shards._OpenShard.write", full)
    with pytest.raises(DataError, match="the disk is full"):
        prepare([write(tmp_path / "a.txt", PLAY)], tmp_path / "out", gpt2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.txt"]


SCRIPT = """
import sys
from scratchlm.recipes import encode
from scratchlm.recipes import prepare as recipe
from scratchlm.recipes.prepare import PrepareConfig, prepare
from scratchlm.tokenizer.gpt2 import gpt2_tokenizer

def main():
    recipe._SMALL = 0
    encode._JOB = 1000
    prepare(sys.argv[1:2], sys.argv[2], gpt2_tokenizer(), config=PrepareConfig(workers=2),
            progress=lambda done, total: print(done, flush=True))

{guard}main()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for another process")
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL])
@pytest.mark.parametrize("native", ["auto", "off"])  # threads, processes
def test_an_interrupted_run_leaves_nothing_and_can_be_repeated(tmp_path, gpt2, native, sent):
    path = write_documents(tmp_path / "a.jsonl", 3000)
    script = write(tmp_path / "run.py", SCRIPT.format(guard='if __name__ == "__main__": '))
    out = tmp_path / "out"
    run = subprocess.Popen(
        [sys.executable, script, path, out],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "SCRATCHLM_NATIVE": native},
    )
    assert run.stdout is not None
    run.stdout.readline()
    os.kill(run.pid, sent)
    _, messages = run.communicate(timeout=60)  # returns when the workers, too, are gone
    assert run.returncode != 0, messages
    assert not out.exists()
    prepare([path], out, gpt2)
    assert open_shards(out).n_tokens > 0
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


def test_two_at_once_into_one_folder_are_refused(tmp_path, gpt2):
    path = write_documents(tmp_path / "a.jsonl", 30)
    refusals = []

    def prepare_again(*_):
        with pytest.raises(ConfigError, match=f"out is in use by .* process {os.getpid()}"):
            prepare([path], tmp_path / "out", gpt2)
        refusals.append(1)

    prepare([path], tmp_path / "out", gpt2, progress=prepare_again)
    assert refusals
    assert open_shards(tmp_path / "out").n_tokens > 0
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


def test_a_folder_killed_between_its_renames_comes_back(tmp_path, gpt2):
    path = write_documents(tmp_path / "a.jsonl", 30)
    prepare([path], tmp_path / "out", gpt2)
    (tmp_path / "out").rename(tmp_path / ".out.retired")
    with pytest.raises(ConfigError, match="out holds prepared data already"):
        prepare([path], tmp_path / "out", gpt2)
    assert open_shards(tmp_path / "out").n_tokens > 0


def test_a_text_that_cannot_be_encoded_is_named_as_it_was_given(tmp_path, char):
    path = write(tmp_path / "texts" / "a.txt", "\u2603")
    with pytest.raises(DataError) as error:
        prepare([tmp_path / "texts"], tmp_path / "out", char)
    assert str(error.value).startswith(f"{path}: '\u2603' (U+2603) at position 0")


def test_the_present_folder_is_refused(tmp_path, gpt2, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"^\. is the folder that you are in"):
        prepare("bundled:shakespeare", ".", gpt2)
    assert not list(tmp_path.iterdir())


def test_a_script_without_a_guard_is_told_so(tmp_path):
    path = write_documents(tmp_path / "a.jsonl", 100)
    script = write(tmp_path / "run.py", SCRIPT.format(guard=""))
    done = subprocess.run(
        [sys.executable, script, path, tmp_path / "out"],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "SCRATCHLM_NATIVE": "off"},
    )
    assert "`if __name__ ==" in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_four_gigabytes_in_less_than_one(tmp_path, char):
    """One text file of 4 GB; the peak is that of the process and its workers together."""
    path = tmp_path / "big.txt"
    block = (PLAY * 300).encode()
    with open(path, "wb") as file:
        for _ in range(-(-4_000_000_000 // len(block))):
            file.write(block)
    char.save(tmp_path / "tokenizer")
    code = """
import resource, sys
from scratchlm.base.runtime import peak_memory
from scratchlm.recipes.prepare import prepare, PrepareConfig
from scratchlm.tokenizer.tokenizer import Tokenizer
if __name__ == "__main__":
    text, out, tokenizer = sys.argv[1:]
    prepare([text], out, Tokenizer.load(tokenizer), config=PrepareConfig(workers=2))
    # ru_maxrss begins with the peak of the process before: for this one it would be pytest's
    worker = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    print(peak_memory() + 2 * worker)
"""
    script = write(tmp_path / "run.py", code)
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, script, path, tmp_path / "out", tmp_path / "tokenizer"],
        capture_output=True,
        check=True,
    )
    print(f"{time.perf_counter() - began:.0f} s, {int(done.stdout) / 1e6:.0f} MB")
    split = open_shards(tmp_path / "out", "val")
    start = open_shards(tmp_path / "out").n_tokens
    whole = np.frombuffer(block, dtype=np.uint8)
    expected = whole[np.arange(start, start + 1000) % len(whole)].tobytes().decode()
    assert char.decode(split.read(0, 1000)) == expected
    assert int(done.stdout) < 1e9
