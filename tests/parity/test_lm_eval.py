"""lm-evaluation-harness: its own backend gives the scores that ours gives, on its own tasks.

Needs lm-eval with its backend for transformers, so it runs where that is installed. Nothing is
fetched: its tasks are pointed at local files.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from scratchlm.checkpoint.folder import load_model, save_model
from scratchlm.evaluation.choices import score_task
from scratchlm.evaluation.harness import harness_model, run_harness
from scratchlm.evaluation.likelihood import Scorer
from scratchlm.evaluation.tasks import load_task
from scratchlm.model.config import ModelConfig
from scratchlm.model.transformer import Transformer
from scratchlm.tokenizer.config import TokenizerConfig
from scratchlm.tokenizer.tokenizer import Tokenizer
from scratchlm.tokenizer.train import train_tokenizer

lm_eval = pytest.importorskip("lm_eval", reason="the extra lm-eval")
huggingface = pytest.importorskip("lm_eval.models.huggingface", reason="lm-eval[hf]")
tasks = pytest.importorskip("lm_eval.tasks")
yaml_loader = pytest.importorskip("lm_eval.tasks._yaml_loader", reason="lm-eval 0.4.13")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]  # it looks for all packages first
TEXT = "The cat sat on the mat, and the dog ran after it. 春眠不觉晓,处处闻啼鸟。 你好,世界!\n" * 5
WORDS = [*TEXT.replace(",", " ").split()[:12], "春眠", "不觉", "晓", "你好", "世界"]
HOMES = {"blimp_wh_island": "wh_island"}  # files that are not called as their tasks


def sentence(i: int, n: int) -> str:
    """Words in an order that i decides."""
    return " ".join(WORDS[(i * 7 + k * (i % 5 + 1)) % len(WORDS)] for k in range(n))


def records() -> dict[str, list[dict[str, Any]]]:
    """A few records of each task, in the fields of the originals."""
    found: dict[str, list[dict[str, Any]]] = {
        name: [] for name in ("blimp", "lambada_test", "hellaswag_val", "valid", "arc", "test")
    }
    for i in range(25):
        good, bad = sentence(i, 6), sentence(i, 3) + " " + sentence(i + 1, 3)
        found["blimp"].append({"sentence_good": good, "sentence_bad": bad, "UID": "wh_island"})
        found["lambada_test"].append({"text": f"“{sentence(i, 20)},\n\nhe said.  {good}"})
        found["hellaswag_val"].append({
            "activity_label": "Roof", "ctx_a": f"{good} [title] {bad}  now.", "label": i % 4,
            "ctx_b": "" if i % 3 else "he", "endings": [
                sentence(i + k, 2 + k) + (" [title] [substeps] x" if k == 2 else "")
                for k in range(4)
            ],
        })  # fmt: skip
        found["valid"].append({"goal": good, "sol1": bad, "sol2": sentence(i + 2, 4)})
        found["arc"].append({
            "question": f"{good}?", "answerKey": "ABC"[i % 3],
            "choices": {"text": [good, bad, "mat"], "label": ["A", "B", "C"]},
        })  # fmt: skip
        found["test"].append({"question": good, "answer": f"{bad}\n#### {i}"})
    return found


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Each task's files, as they are spread."""
    root = tmp_path_factory.mktemp("data")
    for name, own in records().items():
        lines = "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in own)
        (root / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    (root / "valid-labels.lst").write_text("0\n1\n1\n0\n1\n" * 5, encoding="utf-8")
    labelled = [
        {**one, "label": int(label)}
        for one, label in zip(records()["valid"], "01101" * 5, strict=True)
    ]
    lines = "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in labelled)
    (root / "labelled.json").write_text(lines, encoding="utf-8")
    for part, n in (("dev", 5), ("test", 8)):
        (root / part).mkdir()
        rows = [",Question,A,B,C,D,Answer"]
        rows += [f"{i}, {sentence(i, 4)} ,甲{i},乙,丙,丁,{'ABCD'[i % 4]}" for i in range(n)]
        (root / part / "anatomy.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return root


def local(name: str, path: Path, split: str, **more: Any) -> dict[str, Any]:
    """A task of the harness as its YAML file has it, its data from a file."""
    folder = Path(lm_eval.__file__).parent / "tasks"
    (settings,) = folder.glob(f"*/{HOMES.get(name, name)}.yaml")
    own = yaml_loader.load_yaml(settings, resolve_func=True)
    files = {"data_files": {split: str(path)}}
    kind = "csv" if path.suffix == ".csv" else "json"
    return {**own, "dataset_path": kind, "dataset_name": None, "dataset_kwargs": files,
            "training_split": None, **more}  # fmt: skip


def manager() -> Any:
    """Knows no task by name, which spares reading thousands of files."""
    return tasks.TaskManager(include_defaults=False)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Transformer, Tokenizer, Any]:
    """A random model, and the same as HFLM has it."""
    folder = tmp_path_factory.mktemp("model")
    tokenizer = train_tokenizer([TEXT], TokenizerConfig(kind="bpe", vocab_size=300))
    config = ModelConfig("llama", tokenizer.vocab_size, 96, 2, 32, 4, 2, tie_embeddings=False)
    torch.manual_seed(3)
    model = Transformer(config)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim == 2:
                weight.normal_(0.0, 0.3)
    save_model(folder, model, tokenizer)
    theirs = huggingface.HFLM(pretrained=str(folder), dtype="float32", batch_size=4, device="cpu")
    return load_model(folder).eval(), tokenizer, theirs


@pytest.fixture(scope="module")
def both(pair, data: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The results of our model and of theirs, on the same tasks."""
    model, tokenizer, theirs = pair
    chosen = [
        local("blimp_wh_island", data / "blimp.jsonl", "train"),
        local("lambada_openai", data / "lambada_test.jsonl", "test"),
        local("hellaswag", data / "hellaswag_val.jsonl", "validation"),
        local("piqa", data / "labelled.json", "validation"),
        local("arc_easy", data / "arc.jsonl", "test", validation_split=None),
        local("gsm8k", data / "test.jsonl", "test", num_fewshot=0, fewshot_split=None,
              generation_kwargs={"until": ["Q"], "do_sample": False, "max_gen_toks": 20}),
        local("wikitext", data / "lambada_test.jsonl", "test", validation_split=None,
              process_docs=None, doc_to_target="{{text}}", process_results=None,
              should_decontaminate=False, metric_list=[{"metric": "bits_per_byte"}]),
    ]  # fmt: skip
    return (
        run_harness(model, tokenizer, chosen),
        lm_eval.simple_evaluate(model=theirs, tasks=chosen, task_manager=manager()),
    )


NAMES = ("blimp_wh_island", "lambada_openai", "hellaswag", "piqa", "arc_easy", "gsm8k", "wikitext")


@pytest.mark.parametrize("name", NAMES)
def test_every_score_is_the_same(both, name):
    ours, theirs = (found["results"][name] for found in both)
    numbers = [key for key, value in theirs.items() if isinstance(value, float)]
    assert numbers
    for key in numbers:
        assert ours[key] == pytest.approx(theirs[key], rel=1e-5), key


@pytest.mark.parametrize("name", NAMES)
def test_every_response_is_the_same(both, name):
    ours, theirs = (found["samples"][name] for found in both)
    assert len(ours) in (25, 50)  # of gsm8k once for each way to take out the number
    for mine, other in zip(ours, theirs, strict=True):
        assert mine["arguments"] == other["arguments"]
        for (a,), (b,) in zip(mine["resps"], other["resps"], strict=True):
            if isinstance(b, str):
                assert a == b
            else:
                values = zip(*(one if isinstance(one, tuple) else (one,) for one in (a, b)))
                for x, y in values:
                    assert float(x) == pytest.approx(float(y), rel=1e-5, abs=1e-5)


@pytest.mark.parametrize(
    ("task", "name"),
    [
        ("blimp", "blimp_wh_island"),
        ("lambada", "lambada_openai"),
        ("hellaswag", "hellaswag"),
        ("piqa", "piqa"),
        ("arc-easy", "arc_easy"),
    ],
)
def test_our_task_files_ask_what_its_tasks_ask(both, pair, data: Path, task, name, tmp_path):
    """The same contexts and continuations, and so the same scores."""
    model, tokenizer, _ = pair
    files = {"blimp": "blimp.jsonl", "arc-easy": "arc.jsonl"}
    folder = data
    if task in files:
        target = "ARC-Easy-Test.jsonl" if task == "arc-easy" else "wh_island.jsonl"
        folder = tmp_path
        text = (data / files[task]).read_text(encoding="utf-8")
        if task == "arc-easy":
            text = "".join(as_spread(line) for line in text.splitlines())
        (folder / target).write_text(text, encoding="utf-8")
    read = load_task(task, folder)
    samples = both[1]["samples"][name]
    for item, sample in zip(read.items, samples, strict=True):
        assert read.requests(item) == [tuple(one) for one in sample["arguments"]]
    result = score_task(Scorer(model, tokenizer), read)
    for metric in read.about.metrics:
        assert result.score(metric) == pytest.approx(
            both[1]["results"][name][f"{metric},none"], rel=1e-5
        )


def as_spread(line: str) -> str:
    """An ARC record of the hub as its makers spread it."""
    one = json.loads(line)
    choices = zip(one["choices"]["text"], one["choices"]["label"], strict=True)
    listed = [{"text": text, "label": label} for text, label in choices]
    question = {"stem": one["question"], "choices": listed}
    return json.dumps({"question": question, "answerKey": one["answerKey"]}) + "\n"


def test_examples_of_cmmlu_are_shown_as_there(data: Path):
    settings = local("cmmlu_anatomy", data / "test" / "anatomy.csv", "test", num_fewshot=5)
    settings["dataset_kwargs"]["data_files"]["dev"] = str(data / "dev" / "anatomy.csv")
    task = manager().load([settings])["tasks"]["cmmlu_anatomy"]
    task.build_all_requests(rank=0, world_size=1)
    theirs: dict[int, list[tuple[str, str]]] = {}
    for one in task.instances:
        theirs.setdefault(one.doc_id, []).append(one.args)
    read = load_task("cmmlu", data)
    assert len(read.items) == 8
    for i, item in enumerate(read.items):
        assert read.requests(item) == theirs[i]


def test_its_cache_is_filled(pair, data: Path, tmp_path: Path):
    """simple_evaluate(use_cache=...) asks nothing twice."""
    pytest.importorskip("sqlitedict")
    model, tokenizer, _ = pair
    adapted = harness_model(model, tokenizer)
    chosen = [local("blimp_wh_island", data / "blimp.jsonl", "train")]
    cache = str(tmp_path / "cache")
    settings = {"tasks": chosen, "use_cache": cache, "task_manager": manager()}
    first = lm_eval.simple_evaluate(model=adapted, **settings)
    adapted._scorer = None  # so that asking again would fail
    second = lm_eval.simple_evaluate(model=adapted, **settings)
    assert first["results"] == second["results"]
