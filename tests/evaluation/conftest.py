"""An evaluation with everything in it."""

import pytest

from scratchlm.evaluation.overlap import SharedText
from scratchlm.evaluation.perplexity import Surprise
from scratchlm.evaluation.statistics import Difference, Interval
from scratchlm.evaluation.summary import (
    Comparison,
    Confusion,
    Evaluation,
    JudgeSummary,
    ModelFacts,
    OverlapSummary,
    Score,
    ShownAnswer,
    ShownItem,
    Subject,
    TaskSummary,
    TextSummary,
)
from scratchlm.evaluation.task import Reference

SEEN = OverlapSummary(
    n_items=67_000,
    n_found=1_407,
    n_too_short=321,
    run_lengths=(8,),
    n_documents=98_765,
    examples=(
        SharedText(41, "runs/a/data/train/00003.shard, document 77", "Whose hat should Tonya wear"),
    ),
    searched=("runs/a/data",),
    not_searched=("models/base is not in the folder of a run of scratchlm",),
)  # fmt: skip
BLIMP = TaskSummary(
    name="blimp",
    scores=(
        Score("acc", 0.8123, 67_000, Interval(0.8093, 0.8152)),
        Score("acc_norm", 0.7911, 67_000, Interval(0.788, 0.7941)),
    ),
    measures="grammar: which of two sentences is English",
    measures_zh="语法：两个句子中哪一个正确",
    source="Warstadt et al. 2020, arXiv:1912.00582",
    references=(Reference("SmolLM2-135M", "acc", 0.7952, "lm-evaluation-harness 0.4.9"),),
    subjects=(Subject("anaphor_agreement", 0.981, 1000), Subject("island_effects", 0.5512, 1000)),
    overlap=SEEN,
    clean=(Score("acc", 0.8101, 65_593, Interval(0.807, 0.813)),),
    contaminated=(Score("acc", 0.9147, 1_407, Interval(0.899, 0.928)),),
    surprising=(
        ShownItem("b-7", "island_effects", "", "Who does she like?", "Who she does like?", -9.71),
    ),
    facts={"requests": 134_000, "cut": 0},
)  # fmt: skip
CMMLU = TaskSummary(
    name="cmmlu",
    scores=(Score("acc", 0.2631, 11_528, Interval(0.2551, 0.2712)),),
    measures="Chinese exams",
    measures_zh="中文考试题",
    source="Li et al. 2023, arXiv:2306.09212",
    subjects=(Subject("古代汉语", 0.3123, 164), Subject("大学医学", 0.2014, 273)),
    overlap=OverlapSummary(11_528, None, 0, (20,), not_searched=("data is gone",)),
    surprising=(ShownItem("cmmlu-1", "古代汉语", "“学而时习之”出自哪里？", "论语", "孟子", -3.2),),
)
SPAM = TaskSummary(
    name="SMSSpamCollection.tsv",
    scores=(Score("accuracy", 0.9812, 1_115, Interval(0.9714, 0.9877)), Score("f1", 0.9571, 1_115)),
    confusion=Confusion(("ham", "spam"), ((961, 5), (16, 133))),
)
LAMBADA = TaskSummary(
    name="lambada",
    scores=(
        Score("acc", 0.4297, 5_153, Interval(0.4163, 0.4433)),
        Score("perplexity", 16.981, 5_153, Interval(16.02, 18.11)),
    ),
)


@pytest.fixture
def evaluation() -> Evaluation:
    """Tasks in two languages, texts, a judge, answers, and another model."""
    return Evaluation(
        model=ModelFacts("runs/chat/model", 134_515_008, "float32", "cpu", {"step": 900}),
        against=ModelFacts("models/smollm2", 134_515_008),
        tasks=(BLIMP, CMMLU, SPAM, LAMBADA),
        texts=(
            TextSummary(
                name="wikitext-2/test.txt",
                loss_nats=2.8320219,
                perplexity=16.97975,
                n_targets=291_512,
                n_bytes=1_256_449,
                n_documents=1,
                seq_len=2048,
                stride=1024,
                begin="none",
                bits_per_byte=1.182898,
                interval=Interval(1.1712, 1.1944),
                n_first=1,
                n_unknown=12,
                overlap=OverlapSummary(1, 0, searched=("runs/a/data",), run_lengths=(13,)),
                surprising=(Surprise("wikitext-2/test.txt", "@-@ <unk> 的", 11.25),),
            ),
        ),
        comparisons=(
            Comparison("blimp", "acc", 0.8123, 0.8001, _difference(0.0122, 0.0101, 0.0143, 1e-12)),
            Comparison("lambada", "acc", 0.4297, 0.4301, _difference(-0.0004, -0.004, 0.003, 0.87)),
            Comparison("lambada", "perplexity", 16.98, 16.9, _difference(0.0048, 0, 0.01, 0.02)),
        ),
        judge=JudgeSummary(
            "http://127.0.0.1:11434/v1",
            "llama3",
            "Given the input `{prompt}`, score `{answer}` from 0 to 100.",
            0,
            100,
            Score("judge", 50.32, 107, Interval(45.1, 55.9)),
            {"the reply is no score": 2, "no reply in 60 s": 1},
        ),
        answers=(
            ShownAnswer("Rewrite: He is tall.", "He is a tower.", "He tall.", "A tree.", 85, 20),
            ShownAnswer("法国的首都是哪里？", "巴黎。", "", "巴黎", 100, None),
            ShownAnswer("Write a poem.", "Roses are red."),
        ),
        made="2026-11-30T22:32:00+00:00",
        program="0.1.0",
        seconds=754.2,
    )  # fmt: skip


def _difference(mean: float, low: float, high: float, p_value: float) -> Difference:
    return Difference(mean, Interval(low, high), p_value, "exact McNemar test", 1000, 10, 20)
