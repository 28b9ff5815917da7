"""One engine: equal to the plain loop, alone or in company, within the context and beyond."""

import struct
from collections.abc import Callable
from itertools import zip_longest
from pathlib import Path

import numpy as np
import pytest
import torch

from scratchlm.base.errors import CheckpointError, ConfigError, DataError
from scratchlm.checkpoint.folder import load_model
from scratchlm.generation.engine import READ_AT_ONCE, Engine
from scratchlm.generation.sampling import Sampling
from scratchlm.generation.sequence import Request, Token
from scratchlm.model.transformer import Transformer
from scratchlm.tokenizer.tokenizer import Tokenizer

MakeModel = Callable[..., Transformer]
PROMPTS = [[5, 6, 7], [1], [9, 8, 7, 6, 5, 4, 3, 2], [11, 12]]


def plain_loop(model: Transformer, prompt: list[int], n: int) -> list[int]:
    """Greedy text without a cache; a full context goes on with its last half."""
    ids, start, context = list(prompt), 0, model.config.max_seq_len
    with torch.no_grad():
        for _ in range(n):
            if len(ids) - start > context:
                start = len(ids) - context // 2
            ids.append(int(model(torch.tensor([ids[start:]]))[0, -1].argmax()))
    return ids[len(prompt) :]


def greedy(n: int) -> Sampling:
    return Sampling(max_new_tokens=n, temperature=0)


def ids_of(tokens: list[Token], sample: int = 0) -> list[int]:
    return [token.id for token in tokens if token.sample == sample]


def count_reads(model: Transformer) -> list[int]:
    """A list that grows by the number of ids that each call of the model reads."""
    counts: list[int] = []
    model.norm.register_forward_hook(lambda *call: counts.append(call[-1][..., 0].numel()))
    return counts


@pytest.mark.parametrize("family", ["gpt2", "llama", "qwen3"])
def test_greedy_equals_the_plain_loop_and_the_window_too(
    make_model: MakeModel, family: str
) -> None:
    model = make_model(family)
    expected = plain_loop(model, PROMPTS[0], 80)  # 32 in the context, then two and a half slides
    assert len(set(expected)) > 10
    tokens = list(Engine(model).stream(Request(PROMPTS[0], greedy(80))))
    assert ids_of(tokens) == expected
    assert [token.finish for token in tokens] == [None] * 79 + ["length"]


@pytest.mark.parametrize("family", ["gpt2", "qwen3"])
def test_batched_equals_single_when_requests_come_and_go(
    make_model: MakeModel, family: str
) -> None:
    model = make_model(family)
    engine = Engine(model, max_batch=3)
    lengths = [12, 45, 5, 20]
    numbers, made = [], [[] for _ in PROMPTS]
    for step in range(80):
        if step % 3 == 0 and len(numbers) < len(PROMPTS):
            i = len(numbers)
            numbers.append(engine.add(Request(PROMPTS[i], greedy(lengths[i]))))
        engine.step()
        for i, number in enumerate(numbers):
            if len(made[i]) < lengths[i]:
                made[i] += engine.collect(number)
    for prompt, n, tokens in zip(PROMPTS, lengths, made, strict=True):
        assert ids_of(tokens) == plain_loop(model, prompt, n)


def test_requests_with_different_rules_keep_their_own(make_model: MakeModel) -> None:
    model = make_model()
    rules = [greedy(10), Sampling(10, 1.0, top_k=5, seed=1), Sampling(10, 0.5, seed=2), greedy(10)]
    requests = [Request(p, rule) for p, rule in zip(PROMPTS, rules, strict=True)]
    alone = [ids_of(list(Engine(model).stream(request))) for request in requests]
    engine = Engine(model)
    numbers = [engine.add(request) for request in requests]
    for _ in range(10):
        engine.step()
    assert [ids_of(engine.collect(number)) for number in numbers] == alone


def test_sample_i_is_the_same_whatever_n_and_batch(make_model: MakeModel) -> None:
    model = make_model()
    sampling = Sampling(max_new_tokens=12, temperature=1.0, seed=3)
    five = list(Engine(model).stream(Request([5, 6], sampling, n=5)))
    samples = [ids_of(five, i) for i in range(5)]
    assert len({tuple(ids) for ids in samples}) == 5
    assert ids_of(list(Engine(model).stream(Request([5, 6], sampling)))) == samples[0]
    crowded = list(Engine(model, max_batch=2).stream(Request([5, 6], sampling, n=5)))
    assert [ids_of(crowded, i) for i in range(5)] == samples


def test_no_seed_draws_another_text_each_time(make_model: MakeModel) -> None:
    engine, request = Engine(make_model()), Request([5], Sampling(30, 1.0))
    assert ids_of(list(engine.stream(request))) != ids_of(list(engine.stream(request)))


def test_logprob_is_the_models_own(make_model: MakeModel) -> None:
    model = make_model()
    [token] = Engine(model).stream(Request(PROMPTS[2], Sampling(1, 0.3, top_k=4, seed=1)))
    with torch.no_grad():
        expected = model(torch.tensor([PROMPTS[2]]))[0, -1].log_softmax(-1)[token.id].item()
    assert token.logprob == pytest.approx(expected, abs=1e-5)


def test_a_prompt_is_read_once_for_all_samples(make_model: MakeModel) -> None:
    model = make_model()
    reads = count_reads(model)
    list(Engine(model).stream(Request(PROMPTS[2], greedy(3), n=4)))
    assert sum(reads) == len(PROMPTS[2]) - 1 + 4 * 3


def test_going_on_from_a_text_reads_only_what_is_new(make_model: MakeModel) -> None:
    model = make_model()
    engine = Engine(model)
    first = ids_of(list(engine.stream(Request(PROMPTS[2], greedy(6)))))
    longer = PROMPTS[2] + first + [3, 4]
    reads = count_reads(model)
    again = ids_of(list(engine.stream(Request(longer, greedy(5)))))
    assert (
        sum(reads) == 3 + 4
    )  # the last id of before, which no step had read; 3; and one each step
    assert again == plain_loop(model, longer, 5)


def test_another_beginning_reuses_nothing_wrong(make_model: MakeModel) -> None:
    model = make_model()
    engine = Engine(model)
    for prompt in ([5, 6, 7, 8], [5, 6, 9], [5, 6, 7, 8, 1, 2], [1], [5]):
        tokens = list(engine.stream(Request(prompt, greedy(6))))
        assert ids_of(tokens) == plain_loop(model, prompt, 6)


def test_changed_weights_reuse_nothing(make_model: MakeModel) -> None:
    model = make_model()
    engine = Engine(model)
    list(engine.stream(Request(PROMPTS[2], greedy(6))))
    with torch.no_grad():
        model.blocks[0].attention.v.weight.mul_(-1.0)
    tokens = list(engine.stream(Request(PROMPTS[2], greedy(6))))
    assert ids_of(tokens) == plain_loop(model, PROMPTS[2], 6)


def test_a_long_prompt_is_read_in_pieces(make_model: MakeModel) -> None:
    model = make_model(max_seq_len=2 * READ_AT_ONCE)
    prompt = [i % 50 for i in range(READ_AT_ONCE + 90)]
    tokens = list(Engine(model).stream(Request(prompt, greedy(3))))
    assert ids_of(tokens) == plain_loop(model, prompt, 3)


def test_a_prompt_beyond_the_context_is_refused_or_cut(make_model: MakeModel) -> None:
    engine, prompt = Engine(make_model()), [i % 50 for i in range(40)]
    with pytest.raises(ConfigError, match=r"has 40 tokens.* at most 32 at a time.* last 16"):
        engine.add(Request(prompt, greedy(4)))
    cut = list(engine.stream(Request(prompt, greedy(4), window=True)))
    assert ids_of(cut) == plain_loop(engine.model, prompt[-16:], 4)


def test_the_window_is_said_once(make_model: MakeModel, caplog: pytest.LogCaptureFixture) -> None:
    engine = Engine(make_model(max_seq_len=23))  # a size of its own: each text is said only once
    for prompt in ([1], [1, 2], [1] * 23, [1] * 30, [1] * 31):
        list(engine.stream(Request(prompt, greedy(23), window=len(prompt) > 23)))
    assert [record.message for record in caplog.records] == [
        "the text may outgrow the model's context of 23 tokens: from there on it sees only the "
        "last 11 to 23.",
        "the prompt outgrows the model's context of 23 tokens: only its last 11 are used.",
    ]


def test_the_smallest_context_still_writes(make_model: MakeModel) -> None:
    model = make_model(max_seq_len=1)
    tokens = list(Engine(model).stream(Request([3], greedy(4))))
    assert len(tokens) == 4


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (Request([], greedy(1)), "the prompt is empty"),
        (Request([1, 64], greedy(1)), "id 64, but there are only 64 ids"),
        (Request([-1], greedy(1)), "id -1, but"),
    ],
)
def test_ids_that_cannot_be_read_are_refused(
    make_model: MakeModel, request_: Request, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        Engine(make_model()).add(request_)


def test_no_samples_are_refused(make_model: MakeModel) -> None:
    with pytest.raises(ConfigError, match="n = 0 must be at least 1"):
        Engine(make_model()).add(Request([1], greedy(1), n=0))


def test_ids_without_text_are_never_sampled(make_model: MakeModel, characters: Tokenizer) -> None:
    model = make_model(vocab_size=characters.vocab_size + 40)
    engine = Engine(model, characters)
    tokens = list(engine.stream(Request([0], Sampling(200, 5.0, seed=1), n=4)))
    assert len(tokens) == 800
    assert max(token.id for token in tokens) < characters.vocab_size
    with pytest.raises(DataError, match="encoded by another tokenizer"):
        engine.add(Request([characters.vocab_size], greedy(1)))


def test_text_is_what_the_tokenizer_decodes(make_model: MakeModel, byte_pairs: Tokenizer) -> None:
    model = make_model(vocab_size=byte_pairs.vocab_size)
    prompt = byte_pairs.encode("春眠")
    tokens = list(Engine(model, byte_pairs).stream(Request(prompt, Sampling(60, 2.0, seed=5))))
    written = ids_of(tokens)
    if tokens[-1].finish == "stop":
        written = written[:-1]
    text = "".join(token.text for token in tokens)
    assert "春眠" + text == byte_pairs.decode(prompt + written)


def test_an_end_token_frees_the_place(make_model: MakeModel, byte_pairs: Tokenizer) -> None:
    model = make_model(vocab_size=byte_pairs.vocab_size)
    request = Request([5, 6], Sampling(5000, 3.0, seed=0), n=3)
    tokens = list(Engine(model, byte_pairs, max_batch=2).stream(request))
    last = [[t for t in tokens if t.sample == i][-1] for i in range(3)]
    assert [(t.id, t.finish, t.text) for t in last] == [(byte_pairs.eos_id, "stop", "")] * 3


def test_training_mode_is_refused(make_model: MakeModel) -> None:
    with pytest.raises(ConfigError, match=r"in training mode, .* call eval\(\)"):
        Engine(make_model().train()).add(Request([1], greedy(1)))


def test_weights_that_are_not_numbers_are_named(make_model: MakeModel) -> None:
    model = make_model()
    engine = Engine(model)
    model.norm.weight.data[0] = torch.nan
    with pytest.raises(CheckpointError, match="logits are not numbers: its weights are damaged"):
        list(engine.stream(Request([1], greedy(1))))
    model.norm.weight.data[0] = 1.0
    tokens = list(engine.stream(Request([1], greedy(5))))
    assert ids_of(tokens) == plain_loop(model, [1], 5)


def test_streams_may_run_in_turns(make_model: MakeModel) -> None:
    model = make_model()
    engine = Engine(model)
    streams = [engine.stream(Request(prompt, greedy(9))) for prompt in PROMPTS]
    made = [[t.id for t in column if t] for column in zip(*zip_longest(*streams), strict=True)]
    assert made == [plain_loop(model, prompt, 9) for prompt in PROMPTS]


def test_a_closed_stream_leaves_the_others(make_model: MakeModel) -> None:
    model = make_model()
    engine = Engine(model)
    left, kept = (engine.stream(Request(prompt, greedy(9))) for prompt in PROMPTS[:2])
    first = [next(kept).id, next(left).id][:1]
    left.close()
    assert first + [token.id for token in kept] == plain_loop(model, PROMPTS[1], 9)


def test_a_cancelled_request_is_gone(make_model: MakeModel) -> None:
    engine = Engine(make_model(), max_batch=1)
    numbers = [engine.add(Request([1], greedy(4))) for _ in range(3)]
    engine.step()
    engine.cancel(numbers[0])
    engine.cancel(numbers[1])
    engine.cancel(12345)
    for _ in range(4):
        engine.step()
    assert len(engine.collect(numbers[2])) == 4
    for number in numbers:
        with pytest.raises(KeyError):
            engine.collect(number)


def test_bfloat16_models_write(make_model: MakeModel) -> None:
    model = make_model().to(torch.bfloat16)
    assert len(list(Engine(model).stream(Request([1, 2], greedy(40), n=2)))) == 80


def test_a_model_made_for_inference_only_writes(make_model: MakeModel) -> None:
    with torch.inference_mode():
        model = make_model()
    assert len(list(Engine(model).stream(Request([1], greedy(4), n=2)))) == 8


def pieces_of(file: Path) -> list[bytes]:
    """The vocabulary of llama2.c's tokenizer.bin: per piece a score, a length, the bytes."""
    data, at, pieces = file.read_bytes(), 4, []
    while at < len(data):
        _, n = struct.unpack_from("<fi", data, at)
        pieces.append(data[at + 8 : at + 8 + n])
        at += 8 + n
    return pieces


def test_real_weights_tell_the_known_story(shared_data: Path) -> None:
    folder = shared_data / "models" / "stories260K"
    model = load_model(folder / "hf")
    expected = np.load(folder / "reference_logits.npz")["greedy_ids"].tolist()
    engine = Engine(model)
    alone = ids_of(list(engine.stream(Request(expected[:1], greedy(200)))))
    assert alone == expected[1:]
    pieces = pieces_of(folder / "tok512.bin")
    story = b"".join(pieces[token] for token in alone).replace(b"<0x0A>", b"\n").decode()
    assert story.strip() in (folder / "expected_stdout_t0_n200.txt").read_text(encoding="utf-8")
    prompts = [expected[:n] for n in (1, 40, 7, 120)]
    numbers = [engine.add(Request(prompt, greedy(60))) for prompt in prompts]
    for _ in range(60):
        engine.step()
    for prompt, number in zip(prompts, numbers, strict=True):
        n = len(prompt)
        assert ids_of(engine.collect(number)) == expected[n : n + 60]
