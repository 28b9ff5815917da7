"""Tokenizers over files: what is read, what is saved, what is refused."""

import gzip
import json

import pytest

import scratchlm
from scratchlm.base.errors import CheckpointError, ConfigError, DataError
from scratchlm.corpus import bundled
from scratchlm.recipes import tokenizer as recipe
from scratchlm.tokenizer.config import TokenizerConfig
from scratchlm.tokenizer.tokenizer import Tokenizer

ENGLISH = bundled.resolve("bundled:shakespeare").read_text("utf-8")[:20_000]
CHINESE = bundled.resolve("bundled:tang").read_text("utf-8")[:2_000]
SMALL = TokenizerConfig(vocab_size=300)


@pytest.fixture
def folder(tmp_path):
    """A folder of texts: two kinds of file, two languages, one of them in GB18030."""
    texts = tmp_path / "texts"
    (texts / "zh").mkdir(parents=True)
    (texts / "sea.txt").write_text(ENGLISH, encoding="utf-8")
    (texts / "zh" / "moon.txt").write_text(CHINESE, encoding="gb18030")
    lines = [json.dumps({"text": text}, ensure_ascii=False) for text in ("One.", "Two.")]
    (texts / "two.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return texts


def test_a_folder_becomes_a_tokenizer_that_loads_again(folder, tmp_path):
    trained = recipe.train([folder], SMALL, out=tmp_path / "tok")
    loaded = recipe.open_tokenizer(tmp_path / "tok")
    assert loaded.hash == trained.hash
    assert loaded.vocab_size == 300
    for text in (ENGLISH, CHINESE, "unseen: \U0001f389"):
        assert loaded.decode(loaded.encode(text)) == text


def test_every_file_of_the_folder_is_read(folder):
    trained = recipe.train([folder], TokenizerConfig(kind="char"))
    for text in (ENGLISH, CHINESE, "One.", "Two."):
        assert trained.decode(trained.encode(text)) == text


def test_without_a_folder_to_write_nothing_is_written(folder, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    recipe.train([folder / "sea.txt"], TokenizerConfig(kind="char"))
    assert sorted(tmp_path.rglob("*")) == before


def test_compressed_text_is_read(folder, tmp_path):
    packed = tmp_path / "sea.txt.gz"
    packed.write_bytes(gzip.compress(ENGLISH.encode()))
    plain = recipe.train([folder / "sea.txt"], SMALL)
    assert recipe.train([packed], SMALL).hash == plain.hash


def test_bundled_text_needs_no_file():
    trained = recipe.train(["bundled:shakespeare"], TokenizerConfig(kind="char"))
    assert trained.vocab_size == 65  # nanoGPT's figure for tiny shakespeare


def test_the_public_function_is_this_one():
    assert scratchlm.train_tokenizer is recipe.train


def test_gpt2_is_taken_as_it_is(tmp_path):
    trained = recipe.train([], TokenizerConfig(kind="gpt2"), out=tmp_path / "tok")
    assert trained.vocab_size == 50257
    assert recipe.open_tokenizer(tmp_path / "tok").hash == recipe.open_tokenizer("gpt2").hash


def test_training_again_replaces_a_tokenizer_with_all_its_files(folder, tmp_path):
    out = tmp_path / "tok"
    kind = TokenizerConfig(kind="sentencepiece-unigram", vocab_size=400)
    recipe.train([folder / "sea.txt"], kind, out=out)
    assert (out / "tokenizer.model").is_file()
    with pytest.raises(ConfigError, match="holds a tokenizer already"):
        recipe.train([folder], SMALL, out=out)
    recipe.train([folder], SMALL, out=out, overwrite=True)
    assert {path.name for path in out.iterdir()} == {"tokenizer.json", "tokenizer_config.json"}


def test_a_sentencepiece_model_file_opens_by_itself(folder, tmp_path):
    kind = TokenizerConfig(kind="sentencepiece-bpe", vocab_size=400)
    trained = recipe.train([folder / "sea.txt"], kind, out=tmp_path / "tok")
    opened = recipe.open_tokenizer(tmp_path / "tok" / "tokenizer.model")
    assert opened.encode(ENGLISH) == trained.encode(ENGLISH)


def test_a_model_folder_is_not_written_into(folder, tmp_path):
    out = tmp_path / "model"
    out.mkdir()
    (out / "model.safetensors").write_bytes(b"weights")
    with pytest.raises(ConfigError, match=r"model holds other things than a tokenizer \(model.saf"):
        recipe.train([folder], SMALL, out=out)
    assert [path.name for path in out.iterdir()] == ["model.safetensors"]


def test_a_file_in_the_place_of_the_folder_is_refused(folder, tmp_path):
    (tmp_path / "tok").write_text("", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"tok is a file. Name a folder"):
        recipe.train([folder], SMALL, out=tmp_path / "tok")


def test_no_text_is_an_error(tmp_path):
    with pytest.raises(DataError, match=r"no text in"):
        recipe.train([tmp_path], SMALL)


def test_a_failed_training_leaves_the_old_tokenizer(folder, tmp_path):
    out = tmp_path / "tok"
    before = recipe.train([folder], SMALL, out=out)
    with pytest.raises(ConfigError):
        recipe.train([folder], TokenizerConfig(vocab_size=50_000), out=out)
    assert Tokenizer.load(out).hash == before.hash


def test_a_path_without_a_tokenizer_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"tokenizer.json"):
        recipe.open_tokenizer(tmp_path)


def test_encode_gives_one_list_for_each_document(folder):
    tokenizer = recipe.open_tokenizer("gpt2")
    found = list(recipe.encode(folder / "two.jsonl", tokenizer, eos=True))
    assert found == [[*tokenizer.encode(text), 50256] for text in ("One.", "Two.")]


def test_a_long_file_is_encoded_as_one_document(tmp_path):
    text = ENGLISH * 80  # 1.6 MB: read in pieces
    (tmp_path / "long.txt").write_text(text, encoding="utf-8")
    tokenizer = recipe.open_tokenizer("gpt2")
    (tokens,) = recipe.encode(tmp_path / "long.txt", tokenizer, bos=True, eos=True)
    assert tokens == [50256, *tokenizer.encode(text), 50256]


def test_decode_reads_spaces_and_commas():
    tokenizer = recipe.open_tokenizer("gpt2")
    assert recipe.decode("464, 5417\n0", tokenizer) == "The sea!"


@pytest.mark.parametrize("word", ["x", "-1", "1.5"])
def test_decode_names_what_is_not_an_id(word):
    with pytest.raises(
        DataError, match=rf"word 2 of the ids is '{word}', not a whole number from 0"
    ):
        recipe.decode(f"464 {word}", recipe.open_tokenizer("gpt2"))


def test_compare_gives_a_row_for_each_tokenizer(folder, tmp_path):
    recipe.train([folder], SMALL, out=tmp_path / "tok")
    ours, gpt2 = recipe.compare([tmp_path / "tok", "gpt2"], folder)
    assert (ours.name, gpt2.name) == (str(tmp_path / "tok"), "gpt2")
    assert (ours.vocab_size, gpt2.vocab_size) == (300, 50257)


def test_compare_reads_no_more_than_asked(folder, caplog):
    caplog.set_level("INFO", logger="scratchlm")
    (whole,) = recipe.compare(["gpt2"], folder)
    (head,) = recipe.compare(["gpt2"], folder, max_bytes=100)
    assert head.n_tokens < whole.n_tokens
    assert "compared on the first" in caplog.text
