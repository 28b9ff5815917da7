"""SentencePiece's ids against its own library, and `.model` files that came from elsewhere."""

import pytest
from sentencepiece import SentencePieceProcessor

from scratchlm.base.errors import CheckpointError, ConfigError, DataError
from scratchlm.tokenizer.config import TokenizerConfig
from scratchlm.tokenizer.sentencepiece import from_model, from_model_file
from scratchlm.tokenizer.sentencepiece_file import parse_model
from scratchlm.tokenizer.tokenizer import Tokenizer
from scratchlm.tokenizer.train import train_tokenizer

KINDS = ["sentencepiece-bpe", "sentencepiece-unigram"]


def library(tokenizer: Tokenizer) -> SentencePieceProcessor:
    return SentencePieceProcessor(model_proto=tokenizer._companions["tokenizer.model"])


@pytest.mark.parametrize("kind", KINDS)
def test_equals_the_library(tokenizers, lines, kind):
    ours, theirs = tokenizers[kind], library(tokenizers[kind])
    assert ours.encode_batch(lines) == theirs.encode(lines)
    for line in lines:
        tokens = ours.encode(line)
        assert ours.decode(tokens) == theirs.decode(tokens)
    roles = (theirs.bos_id(), theirs.eos_id(), theirs.unk_id())
    assert (ours.bos_id, ours.eos_id, ours.unk_id) == roles


@pytest.mark.parametrize("kind", KINDS)
def test_equals_the_library_without_byte_fallback(text, lines, kind):
    config = TokenizerConfig(kind=kind, vocab_size=900, byte_fallback=False)
    ours = train_tokenizer([text.replace("\U0001f600", "")], config)
    assert ours.encode_batch(lines) == library(ours).encode(lines)
    assert ours.unk_id in ours.encode("\U0001f600")
    with pytest.raises(DataError, match=r"\(U\+1F600\) at position 3 of the text is not in the"):
        ours.encode("the\U0001f600", strict=True)


@pytest.mark.parametrize("kind", KINDS)
def test_model_and_vocab_are_kept_beside(tokenizers, kind, tmp_path):
    tokenizers[kind].save(tmp_path / "a")
    Tokenizer.load(tmp_path / "a").save(tmp_path / "b")
    for name in ("tokenizer.model", "tokenizer.vocab"):
        content = (tmp_path / "b" / name).read_bytes()
        assert content == (tmp_path / "a" / name).read_bytes()
    theirs = SentencePieceProcessor(model_file=str(tmp_path / "b" / "tokenizer.model"))
    assert theirs.encode("the people") == tokenizers[kind].encode("the people")
    first = (tmp_path / "b" / "tokenizer.vocab").read_text(encoding="utf-8").splitlines()[:3]
    assert first == ["<unk>\t0", "<s>\t0", "</s>\t0"]
    assert from_model_file(tmp_path / "b" / "tokenizer.model").hash == tokenizers[kind].hash


def test_cuts_of_equal_cost_are_cut_alike(text):
    """Runs of one character have many cuts of the same cost: 32 and 64 bits must not differ."""
    runs = [char * n for char in "-= ~*" for n in range(1, 150, 7)]
    config = TokenizerConfig(kind="sentencepiece-unigram", vocab_size=600)
    ours = train_tokenizer([text, *runs], config)
    assert ours.encode_batch(runs) == library(ours).encode(runs)


def test_llama2(shared_data, lines):
    path = shared_data / "tokenizers" / "llama2" / "tokenizer.model"
    ours, theirs = from_model_file(path), SentencePieceProcessor(model_file=str(path))
    assert (ours.kind, ours.vocab_size) == ("sentencepiece-bpe", 32000)
    assert (ours.bos_id, ours.eos_id, ours.unk_id, ours.pad_id) == (1, 2, 0, None)
    assert ours.encode_batch(lines) == theirs.encode(lines)
    assert [ours.decode(t) for t in theirs.encode(lines)] == theirs.decode(theirs.encode(lines))


def test_vectors_of_llama_cpp(shared_data):
    folder = shared_data / "tokenizers"
    ours = from_model_file(folder / "llama2" / "tokenizer.model")
    vectors = folder / "llama.cpp-ggml-vocab" / "ggml-vocab-llama-spm.gguf"
    with open(f"{vectors}.inp", encoding="utf-8", newline="") as file:
        texts = file.read().split("\n__ggml_vocab_test__\n")
    rows = (vectors.parent / f"{vectors.name}.out").read_text(encoding="ascii").split("\n")
    for text, row in zip(texts, rows, strict=False):
        assert ours.encode(text) == [int(i) for i in row.split()], repr(text)


def test_normalising_unigram_model(shared_data, lines):
    """A Chinese model with nmt_nfkc rules that squeezes spaces; its scores are not rounded."""
    path = shared_data / "tokenizers" / "chinese_sp" / "chinese_sp.model"
    ours, theirs = from_model_file(path), SentencePieceProcessor(model_file=str(path))
    assert ours.kind == "sentencepiece-unigram"
    different = [
        line
        for line, tokens in zip(lines, theirs.encode(lines), strict=True)
        if ours.encode(line) != tokens
    ]
    assert len(different) <= 2, different  # cuts of equal cost, see round_scores


@pytest.mark.parametrize(
    ("vocab_size", "message"),
    [
        (100_000, r"vocab_size = 100000, but this text gives at most \d+ pieces. Set .* more text"),
        (262, r"vocab_size = 262 is less than the \d+ ids that the single characters"),
    ],
)
@pytest.mark.parametrize("kind", KINDS)
def test_impossible_vocabulary(text, kind, vocab_size, message):
    fallback = vocab_size > 1000
    config = TokenizerConfig(kind=kind, vocab_size=vocab_size, byte_fallback=fallback)
    with pytest.raises(ConfigError, match=message):
        train_tokenizer([text], config)


def test_vocabulary_smaller_than_the_bytes(text):
    config = TokenizerConfig(kind="sentencepiece-bpe", vocab_size=200)
    with pytest.raises(ConfigError, match=r"vocab_size = 200 leaves no room beside the 259 ids"):
        train_tokenizer([text], config)


def test_suggested_vocabulary_size_works(text):
    config = TokenizerConfig(kind="sentencepiece-bpe", vocab_size=100_000)
    with pytest.raises(ConfigError) as refused:
        train_tokenizer([text], config)
    suggested = int(str(refused.value).split("at most ")[1].split()[0])
    config = TokenizerConfig(kind="sentencepiece-bpe", vocab_size=suggested)
    assert train_tokenizer([text], config).vocab_size == suggested


def test_rare_characters_are_left_to_the_bytes(caplog):
    caplog.set_level("INFO")
    rare = "".join(map(chr, range(0x4E00, 0x4E00 + 600)))
    text = "the people of the city\n" * 3000 + rare
    ours = train_tokenizer([text], TokenizerConfig(kind="sentencepiece-bpe", vocab_size=400))
    assert "rare characters" in caplog.text
    assert ours.decode(ours.encode(rare)) == rare


def test_long_lines_and_reserved_characters_are_not_skipped():
    long_line = "abcdefgh " * 30_000 + "\u2585 xyz" * 10_000
    config = TokenizerConfig(kind="sentencepiece-bpe", vocab_size=300)
    ours = train_tokenizer([long_line], config)
    assert len(ours.encode("abcdefgh xyz")) == 2


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda model: model[: len(model) // 2], "cut short"),
        (lambda _: b"\xff" * 40, "not a SentencePiece .model"),
        (lambda _: b"", "not exactly one unknown piece"),
        (lambda model: model + model, "not exactly one unknown piece"),
        (lambda _: b'{"model": {}}', "not a SentencePiece .model"),
    ],
)
def test_damaged_model(tokenizers, tmp_path, damage, message):
    path = tmp_path / "bad.model"
    path.write_bytes(damage(tokenizers["sentencepiece-bpe"]._companions["tokenizer.model"]))
    with pytest.raises(CheckpointError, match=message):
        from_model_file(path)


def test_any_damage_is_a_clear_error_or_none(tokenizers):
    """Every 97th byte changed, one at a time: nothing else is raised."""
    model = tokenizers["sentencepiece-unigram"]._companions["tokenizer.model"]
    n_refused = 0
    for at in range(0, len(model), 97):
        damaged = model[:at] + bytes([model[at] ^ 0x55]) + model[at + 1 :]
        try:
            parse_model(damaged, "damaged.model")
        except CheckpointError:
            n_refused += 1
    assert n_refused > 3


def test_missing_model(tmp_path):
    with pytest.raises(CheckpointError, match=r"no\.model does not exist"):
        from_model_file(tmp_path / "no.model")


def test_user_defined_symbols_are_markers(text):
    import io

    import sentencepiece

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(text.split("\n")),
        model_writer=model,
        model_type="bpe",
        vocab_size=800,
        user_defined_symbols=["<|im_start|>"],
        control_symbols=["<mask>"],
        minloglevel=2,
    )
    ours = from_model(model.getvalue(), "new")
    assert ours.special_tokens["<|im_start|>"] not in ours.encode("a<|im_start|>b")
    marked = ours.encode("a<|im_start|>b", allowed_special=True)
    assert ours.special_tokens["<|im_start|>"] in marked
    assert "<mask>" in ours.special_tokens
