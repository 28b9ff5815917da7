"""Likelihoods: as the plain way has them, whatever shares a row; encoded as the harness does."""

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import PreTrainedTokenizerFast

from scratchlm.base.errors import CheckpointError, DataError
from scratchlm.evaluation.likelihood import Encoded, Likelihood, Scorer
from scratchlm.model.config import ModelConfig
from scratchlm.model.rope import RopeScaling
from scratchlm.model.transformer import Transformer
from scratchlm.tokenizer.config import TokenizerConfig
from scratchlm.tokenizer.tokenizer import Tokenizer
from scratchlm.tokenizer.train import train_tokenizer

TEXT = "The cat sat on the mat, and the dog ran after it. 春眠不觉晓,处处闻啼鸟。 你好,世界!\n" * 3
VOCAB = 300
EXPERTS = {"n_experts": 4, "n_active": 2, "d_ff": 24}
SHAPES = {
    "gpt2": {"family": "gpt2"},
    "llama": {"family": "llama", "n_kv_heads": 2},
    "qwen3": {"family": "qwen3", "n_kv_heads": 1},
    "mixtral": {"family": "mixtral", **EXPERTS},
    "window": {"family": "mistral", "window": 9},
    "gemma3": {"family": "gemma3_text", "window": 9, "global_every": 2},
    "dynamic": {"family": "llama", "rope_scaling": RopeScaling("dynamic", 2.0, 20)},
    "dynamic-short": {"family": "llama", "rope_scaling": RopeScaling("dynamic", 2.0, 120)},
}


def make_model(max_seq_len: int = 128, **shape: object) -> Transformer:
    config = ModelConfig(
        **{"vocab_size": VOCAB, "max_seq_len": max_seq_len, "n_layers": 2, "d_model": 32,
           "n_heads": 4, "tie_embeddings": False, **shape}
    )  # fmt: skip
    torch.manual_seed(0)
    model = Transformer(config)
    with torch.no_grad():
        for weight in model.parameters():
            mean = 1.0 if weight.ndim == 1 and config.family != "gemma3_text" else 0.0
            weight.normal_(mean, 0.2)
    return model.eval()


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer([TEXT], TokenizerConfig(kind="bpe", vocab_size=VOCAB))


def plainly(model: Transformer, one: Encoded) -> tuple[float, bool]:
    """One sequence by itself, in float64: all logits, and the definition."""
    ids = torch.from_numpy(one.ids)[-(model.config.max_seq_len + 1) :]
    with torch.inference_mode():
        log_probs = model(ids[None, :-1])[0].float().log_softmax(-1)[-one.n_targets :]
    targets = ids[-one.n_targets :]
    chosen = log_probs.gather(1, targets[:, None]).double().sum().item()
    return chosen, bool((log_probs.argmax(-1) == targets).all())


def sequences(n_stem: int = 40) -> list[Encoded]:
    """Sequences that share much, something and nothing, and some that are equal."""
    g = np.random.default_rng(3)
    stem = g.integers(0, VOCAB, n_stem)
    found = []
    for _ in range(20):
        question = g.integers(0, VOCAB, g.integers(1, 12))
        for _ in range(4):
            choice = g.integers(0, VOCAB, g.integers(1, 5))
            found.append(Encoded(np.concatenate((stem, question, choice)), len(choice), 0))
    for _ in range(30):
        lone = g.integers(0, 3, g.integers(2, 60))
        found.append(Encoded(lone, int(g.integers(1, len(lone))), 0))
    return [*found, *found[5:8]]


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("max_tokens", [1, 200, 4096])
def test_sharing_and_batches_change_nothing(shape, max_tokens, tokenizer):
    model = make_model(**shape)
    given = sequences()
    scorer = Scorer(model, tokenizer, max_tokens_per_batch=max_tokens)
    for one, found in zip(given, scorer.score(given), strict=True):
        nats, greedy = plainly(model, one)
        assert found.nats == pytest.approx(nats, rel=1e-5, abs=1e-5)
        assert (found.greedy, found.n_tokens) == (greedy, one.n_targets)


def test_threads_change_nothing(tokenizer):
    before = torch.get_num_threads()
    model, given = make_model(family="llama"), sequences()
    found = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(Scorer(model, tokenizer, max_tokens_per_batch=200).score(given))
    finally:
        torch.set_num_threads(before)
    for one, two, three in zip(*found, strict=True):
        assert (two.nats, three.nats) == pytest.approx((one.nats, one.nats), rel=1e-6, abs=1e-6)
        assert two.greedy == three.greedy == one.greedy


def test_what_is_shared_is_read_once_and_only_targets_reach_the_head(tokenizer, monkeypatch):
    model = make_model()
    given = sequences()
    n_read = n_head = 0
    hidden, head = model.hidden, model.head.forward

    def count_read(tokens, **settings):
        nonlocal n_read
        n_read += tokens.numel()
        return hidden(tokens, **settings)

    def count_head(x):
        nonlocal n_head
        n_head += len(x)
        return head(x)

    monkeypatch.setattr(model, "hidden", count_read)
    monkeypatch.setattr(model.head, "forward", count_head)
    Scorer(model, tokenizer, max_tokens_per_batch=512).score(given)
    prefixes = {one.ids[:n].tobytes() for one in given for n in range(1, len(one.ids))}
    targets = {
        one.ids[:n].tobytes()
        for one in given
        for n in range(len(one.ids) - one.n_targets, len(one.ids))
    }
    assert len(targets) <= n_head < 1.02 * len(targets)  # a row's first ones, once more
    assert n_read < 1.6 * len(prefixes)  # padding, and beginnings that do not pay
    assert n_read < sum(len(one.ids) for one in given) / 2.5


def test_greedy_is_what_the_model_would_write(tokenizer):
    model = make_model()
    ids = [5, 6, 7]
    with torch.inference_mode():
        for _ in range(4):
            ids.append(int(model(torch.tensor([ids]))[0, -1].argmax()))
    other = [*ids[:-1], (ids[-1] + 1) % VOCAB]
    scorer = Scorer(model, tokenizer)
    likely, unlikely = scorer.score([Encoded(np.array(one), 4, 0) for one in (ids, other)])
    assert (likely.greedy, unlikely.greedy) == (True, False)


def test_of_equal_logits_the_first_is_greedy(tokenizer):
    model = make_model()
    with torch.no_grad():
        model.head.weight.zero_()
    found = Scorer(model, tokenizer).score([Encoded(np.array([1, i]), 1, 0) for i in (0, 1, 299)])
    assert [one.greedy for one in found] == [True, False, False]
    assert [one.nats for one in found] == pytest.approx([-np.log(VOCAB)] * 3)


def test_bfloat16_differs_by_its_rounding_only(tokenizer):
    model = make_model(family="llama")
    given = sequences()
    exact = Scorer(model, tokenizer).score(given)
    rounded = Scorer(model.to(torch.bfloat16), tokenizer).score(given)
    relative = [abs(a.nats / b.nats - 1) for a, b in zip(exact, rounded, strict=True)]
    assert 0 < float(np.mean(relative)) < 0.02


def as_the_harness(foreign: PreTrainedTokenizerFast, prefix: int, request: tuple[str, str]):
    """`TemplateLM._encode_pair` and `loglikelihood` of lm-evaluation-harness 0.4.13."""
    special = foreign.decode([prefix])

    def encode(text: str) -> list[int]:
        return foreign.encode(text, add_special_tokens=not text.startswith(special))

    context, continuation = request
    if context == "":
        ids = foreign.encode(continuation, add_special_tokens=False)
        return ([prefix], ids) if ids[0] != prefix else (ids[:1], ids[1:])
    n_spaces = len(context) - len(context.rstrip())
    if n_spaces > 0:
        continuation = context[-n_spaces:] + continuation
        context = context[:-n_spaces]
    whole, start = encode(context + continuation), encode(context)
    return start, whole[len(start) :]


@pytest.mark.parametrize("begins", [False, True], ids=["plain", "begins"])
def test_requests_are_encoded_as_in_the_harness(begins, tmp_path: Path):
    settings = TokenizerConfig(kind="bpe", vocab_size=VOCAB, bos=begins)
    tokenizer = train_tokenizer([TEXT], settings)
    tokenizer.save(tmp_path)
    if begins:  # as Llama's: the begin token before every text
        text = (tmp_path / "tokenizer.json").read_text(encoding="utf-8")
        name = next(n for n, i in tokenizer.special_tokens.items() if i == tokenizer.bos_id)
        rule = (
            '"post_processor": {"type": "TemplateProcessing", "single": [{"SpecialToken": '
            f'{{"id": "{name}", "type_id": 0}}}}, {{"Sequence": {{"id": "A", "type_id": 0}}}}], '
            '"pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": '
            f'1}}}}], "special_tokens": {{"{name}": {{"id": "{name}", "ids": [{tokenizer.bos_id}], '
            f'"tokens": ["{name}"]}}}}}}'
        )
        assert '"post_processor":null' in text.replace(" ", "")
        (tmp_path / "tokenizer.json").write_text(
            text.replace('"post_processor": null', rule).replace('"post_processor":null', rule),
            encoding="utf-8",
        )
        tokenizer = Tokenizer.load(tmp_path)
        assert tokenizer.begins
    foreign = PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "tokenizer.json"))
    scorer = Scorer(make_model(vocab_size=tokenizer.vocab_size), tokenizer)
    prefix = tokenizer.bos_id if begins else tokenizer.eos_id
    assert scorer.prefix_id == prefix
    special = foreign.decode([prefix])
    requests = [
        ("", " The cat"),
        ("", "你好"),
        ("", f"{special}The dog"),
        ("The cat", " sat"),
        ("The cat ", "sat"),  # the space moves
        ("The cat\n\n", "sat on"),
        ("the ma", "t, and"),  # one token over the border
        ("春眠不觉", "晓"),
        ("春眠不觉晓,", " 处处"),
        (f"{special}The", " cat"),
        ("The cat", f"{special}"),
    ]
    for request, one in zip(requests, scorer.encode(requests), strict=True):
        start, rest = as_the_harness(foreign, prefix, request)
        assert one.ids.tolist() == [*start, *rest], request
        assert (one.n_targets, one.n_bytes) == (len(rest), len(request[1].encode())), request


def test_a_context_of_white_space_alone_counts_as_none(tokenizer):
    scorer = Scorer(make_model(), tokenizer)
    (one,), (other,) = scorer.encode([(" ", "cat")]), scorer.encode([("", " cat")])
    assert one.ids.tolist() == other.ids.tolist()
    assert (one.n_targets, one.n_bytes) == (other.n_targets, 3)


def test_a_long_context_loses_its_beginning_and_says_so(tokenizer, caplog):
    model = make_model(max_seq_len=16)
    scorer = Scorer(model, tokenizer)
    ids = np.arange(30)
    with caplog.at_level(logging.WARNING, "scratchlm"):
        long, same, short = scorer.score(
            [Encoded(ids, 3, 0), Encoded(ids[-17:], 3, 0), Encoded(ids[:5], 3, 0)]
        )
    assert long.nats == same.nats != short.nats
    assert scorer.n_cut == 1
    assert "1 of 3 texts are longer" in caplog.text
    assert "13 tokens in all" in caplog.text


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (("The cat", ""), "has no tokens of its own"),
        (("The cat", " cat" * 40), "reads at most 16"),
    ],
)
def test_what_has_no_likelihood_is_refused(request_, words, tokenizer):
    with pytest.raises(DataError, match=words):
        Scorer(make_model(max_seq_len=16), tokenizer).loglikelihoods([request_])


def test_numbers_that_are_none_are_refused(tokenizer):
    model = make_model()
    with torch.no_grad():
        model.head.weight[7] = float("nan")
    with pytest.raises(CheckpointError, match="are not numbers"):
        Scorer(model, tokenizer).loglikelihoods([("The", " cat")])


def test_dropout_is_off_meanwhile_and_on_again(tokenizer):
    model = make_model(dropout=0.5)
    scorer = Scorer(model, tokenizer)
    still = scorer.loglikelihoods([("The", " cat")])
    model.train()
    assert scorer.loglikelihoods([("The", " cat")]) == still
    assert model.training


def test_whole_texts_are_read_in_windows(tokenizer):
    """The picture in `LM.loglikelihood_rolling` of the harness: windows of 4, ids 0 to 9."""
    model = make_model(max_seq_len=4)
    scorer = Scorer(model, tokenizer)
    text = "The cat sat on the mat, and the dog"
    ids = tokenizer.encode(text)
    expected, done = 0.0, 0
    begun = [scorer.prefix_id, *ids]
    while done < len(ids):
        end = min(done + 4, len(ids))
        window = begun[max(0, end - 4) : end + 1]
        expected += plainly(model, Encoded(np.array(window), end - done, 0))[0]
        done = end
    whole, empty = scorer.rolling([text, ""])
    assert whole.nats == pytest.approx(expected, rel=1e-6)
    assert (whole.n_tokens, whole.n_bytes) == (len(ids), len(text))
    assert empty == Likelihood(0.0, 0, 0, True)


def test_nothing_is_asked(tokenizer):
    assert Scorer(make_model(), tokenizer).loglikelihoods([]) == []
