"""Scores of tasks: by hand, by subject, with intervals, and against another model."""

import math
from pathlib import Path

import pytest
import torch

from scratchlm.base.errors import ConfigError, DataError
from scratchlm.evaluation.answers import answer_task, comparable, write
from scratchlm.evaluation.choices import score_task
from scratchlm.evaluation.likelihood import Likelihood, Scorer
from scratchlm.evaluation.results import Outcome, TaskResult
from scratchlm.evaluation.statistics import wilson
from scratchlm.evaluation.task import DataFiles, Item, Task, TaskFile
from scratchlm.generation.engine import Engine
from scratchlm.generation.sampling import Sampling
from scratchlm.generation.sequence import Request
from scratchlm.model.config import ModelConfig
from scratchlm.model.transformer import Transformer
from scratchlm.tokenizer.config import TokenizerConfig
from scratchlm.tokenizer.tokenizer import Tokenizer
from scratchlm.tokenizer.train import train_tokenizer

TEXT = "The cat sat on the mat, and the dog ran after it. 春眠不觉晓,处处闻啼鸟。\n" * 3


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer([TEXT], TokenizerConfig(kind="bpe", vocab_size=280))


@pytest.fixture(scope="module")
def model(tokenizer: Tokenizer) -> Transformer:
    config = ModelConfig("llama", tokenizer.vocab_size, 64, 2, 32, 4, 2, tie_embeddings=False)
    torch.manual_seed(1)
    made = Transformer(config).eval()
    with torch.no_grad():
        for weight in made.parameters():
            if weight.ndim == 2:
                weight.normal_(0.0, 0.25)
    return made


def about(kind: str, metric: str, **settings: object) -> TaskFile:
    settings = {"choices": ("{c}",), **settings}
    return TaskFile("m", "m", "s", "", "", kind, (metric,), (DataFiles(("f",)),), **settings)


def task_of(kind: str, metric: str, *items: Item, **settings: object) -> Task:
    return Task("test", about(kind, metric, **settings), items)


class Fixed:
    """A scorer with given likelihoods."""

    n_cut = 0

    def __init__(self, *nats: float, greedy: bool = False) -> None:
        self.found = [Likelihood(one, 1, 1, greedy) for one in nats]

    def loglikelihoods(self, requests: list[tuple[str, str]]) -> list[Likelihood]:
        assert len(requests) == len(self.found)
        return self.found


def test_choices_by_sum_by_character_and_by_byte():
    """-6 / 3 characters against -8 / 5 and -10 / 4: other measures, other choices."""
    item = Item("1", "", "f:1", "p", ("abc", "abcde", "四个汉字"), right=2)
    result = score_task(Fixed(-6.0, -8.0, -10.0), task_of("choices", "acc", item))
    (outcome,) = result.outcomes
    assert outcome.values == {"acc": 0.0, "acc_norm": 0.0, "acc_bytes": 1.0}
    assert (outcome.given, outcome.right, outcome.margin) == ("abc", "四个汉字", -4.0)
    norm = Item("1", "", "f:1", "p", ("abc", "abcde", "四个汉字"), right=1)
    (outcome,) = score_task(Fixed(-6.0, -8.0, -10.0), task_of("choices", "acc", norm)).outcomes
    assert outcome.values["acc_norm"] == 1.0


def test_ties_go_to_the_first_choice():
    items = [Item(str(i), "", "", "p", ("a", "b"), right=i) for i in (0, 1)]
    result = score_task(Fixed(-1.0, -1.0, -1.0, -1.0), task_of("choices", "acc", *items))
    assert result.values("acc").tolist() == [1.0, 0.0]


def test_perplexity_of_continuations():
    items = [Item(str(i), "", "", "p", ("x",)) for i in range(2)]
    result = score_task(Fixed(-1.0, -3.0, greedy=True), task_of("continuation", "acc", *items))
    assert result.score("perplexity") == pytest.approx(math.exp(2.0))
    assert result.score("acc") == 1.0
    interval = result.interval("perplexity")
    assert math.exp(1) <= interval.low < math.exp(2) < interval.high <= math.exp(3)


def test_a_real_model_on_a_real_task(model, tokenizer):
    """The same as asking the scorer item by item."""
    scorer = Scorer(model, tokenizer)
    items = [
        Item("a", "x", "", "The cat", ("sat on", "ran"), right=0),
        Item("b", "y", "", "春眠", ("不觉", "处处"), right=1),
    ]
    result = score_task(scorer, task_of("choices", "acc", *items))
    for item, outcome in zip(items, result.outcomes, strict=True):
        first, second = scorer.loglikelihoods([(item.prompt, f" {c}") for c in item.choices])
        margin = (first.nats - second.nats) * (1 if item.right == 0 else -1)
        assert outcome.margin == pytest.approx(margin, rel=1e-4)
        assert outcome.values["acc"] == float(margin > 0)
    assert result.facts == {"requests": 4, "cut": 0}


def result_of(*values: float, task: str = "t") -> TaskResult:
    outcomes = [
        Outcome(str(i), "even" if i % 2 == 0 else "odd", {"acc": value}, "", "")
        for i, value in enumerate(values)
    ]
    return TaskResult(task, ("acc",), tuple(outcomes))


def test_scores_by_subject_and_with_intervals():
    result = result_of(1, 0, 1, 0, 0)
    assert result.by_subject("acc") == {"even": (2 / 3, 3), "odd": (0.0, 2)}
    assert result.score("acc") == pytest.approx(0.4)
    assert result.interval("acc") == wilson(2, 5)
    wide = result.interval("acc", clustered=True)
    assert (wide.low, wide.high) == (0.0, pytest.approx(2 / 3))


def test_two_results_are_paired_by_item():
    better, worse = result_of(1, 1, 1, 0), result_of(1, 0, 0, 0)
    found = better.against(worse, "acc")
    assert (found.mean, found.n_better, found.n_worse) == (0.5, 2, 0)
    turned = TaskResult("t", ("acc",), worse.outcomes[::-1])
    assert better.against(turned, "acc") == found
    with pytest.raises(DataError, match="not of the same items"):
        better.against(result_of(1, 0), "acc")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("so it is 1,234.\n#### 1,234.", "1234"),
        ("#### -5", "-5"),
        ("no number", None),
        ("#### 7 or #### 8", "7"),
    ],
)
def test_numbers_are_taken_out_of_answers(text, expected):
    rules = about("answers", "exact_match", extract=r"#### (\-?[0-9\.\,]+)", ignore=(",", r"\.$"))
    assert comparable(text, rules) == expected


def test_case_and_spaces():
    assert comparable(" Paris\n", about("answers", "exact_match")) == "Paris"
    assert comparable("PARIS", about("answers", "exact_match", ignore_case=True)) == "paris"


def greedy_text(engine: Engine, ids: list[int], n: int, stop: tuple[str, ...] = ()) -> str:
    sampling = Sampling(max_new_tokens=n, temperature=0, stop=stop)
    return "".join(token.text for token in engine.stream(Request(ids, sampling)))


def test_answers_are_the_greedy_text_whatever_the_batch(model, tokenizer):
    prompts = [tokenizer.encode(text) for text in ("The cat", "春眠", "dog", "it. The mat", "on")]
    alone = [greedy_text(Engine(model, tokenizer), ids, 12) for ids in prompts]
    for max_batch in (1, 2, 64):
        texts, n_cut = write(Engine(model, tokenizer, max_batch=max_batch), prompts, (), 12)
        assert (texts, n_cut) == (alone, 0)
    stop = alone[0][3:5]
    texts, _ = write(Engine(model, tokenizer), prompts[:1], (stop,), 12)
    assert texts == [alone[0].split(stop)[0]]


def test_answers_are_compared(model, tokenizer):
    engine = Engine(model, tokenizer)
    said = greedy_text(engine, tokenizer.encode("The cat"), 5)
    items = [Item("a", "", "", "The cat", answer=said), Item("b", "", "", "The cat", answer="x")]
    task = task_of("answers", "exact_match", *items, max_new_tokens=5)
    result = answer_task(engine, task)
    assert result.values("exact_match").tolist() == [1.0, 0.0]
    assert result.outcomes[0].given == said


def test_answers_fill_half_of_the_context_at_most(model, tokenizer, caplog):
    engine = Engine(model, tokenizer)
    half = engine.max_seq_len // 2
    task = task_of("answers", "exact_match", Item("a", "", "", "The cat", answer="x"))
    assert task.about.max_new_tokens > half
    result = answer_task(engine, task)
    ids = tokenizer.encode("The cat")
    assert result.outcomes[0].given == greedy_text(Engine(model, tokenizer), ids, half)
    assert f"answers end after {half} tokens" in caplog.text


def test_long_prompts_lose_their_beginnings_and_say_so(model, tokenizer, caplog):
    ids = list(range(20, 20 + 70))
    engine = Engine(model, tokenizer)
    texts, n_cut = write(engine, [ids, ids[-54:]], (), 10)
    assert texts[0] == texts[1]
    assert n_cut == 1
    assert "1 of 2 prompts leave no room for 10 tokens" in caplog.text
    with pytest.raises(ConfigError, match="max_new_tokens = 64 leaves no room"):
        write(engine, [ids], (), 64)


def test_the_harness_names_its_extra(model, tokenizer, monkeypatch: pytest.MonkeyPatch):
    import sys

    from scratchlm.base.errors import MissingExtraError
    from scratchlm.evaluation import harness

    harness._adapter.cache_clear()
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    with pytest.raises(MissingExtraError, match=r'pip install "scratchlm\[lm-eval\]"'):
        harness.harness_model(model, tokenizer)
    harness._adapter.cache_clear()


def test_the_harness_refuses_chance():
    from scratchlm.evaluation.harness import _rule

    assert _rule({"until": "\n", "max_gen_toks": 5}) == (("\n",), 5)
    assert _rule({"until": ["Q:", ""], "do_sample": False, "temperature": 0.0}) == (("Q:",), 256)
    with pytest.raises(ConfigError, match="at random"):
        _rule({"do_sample": True})


def test_the_data_files_ship_with_the_package():
    folder = Path(score_task.__code__.co_filename).parent / "task_files"
    assert len(list(folder.glob("*.toml"))) >= 9
