"""datatrove's side of the cleaning benchmark, after its own examples/fineweb.py.

For Chinese with the thresholds and stop words of FineWeb 2 (huggingface/fineweb-2,
configs/cmn_Hani.yml), and without the rule of C4 that takes what stands between spaces for words.
"""

import gzip
import tempfile
import time
from pathlib import Path
from typing import Any

from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.dedup import (
    MinhashDedupBuckets,
    MinhashDedupCluster,
    MinhashDedupFilter,
    MinhashDedupSignature,
)
from datatrove.pipeline.dedup.minhash import MinhashConfig
from datatrove.pipeline.filters import (
    C4QualityFilter,
    FineWebQualityFilter,
    GopherQualityFilter,
    GopherRepetitionFilter,
)
from datatrove.pipeline.formatters import PIIFormatter
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.writers.jsonl import JsonlWriter

LANGUAGES = {"en": "eng", "zh": "zho_Hani"}
CHINESE_STOP_WORDS = "的年在月是和日了於·為有被人中为他與後也而由"


def clean(source: str, workers: int, language: str) -> dict[str, Any]:
    """Filter, find near-duplicates in datatrove's four stages, mask, write."""
    tasks = len(list(Path(source).iterdir()))
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        for stage in _stages(source, folder, tasks, workers, language):
            stage.run()
        seconds = time.perf_counter() - began
        n_kept = sum(map(_count, Path(folder, "clean").rglob("*.jsonl.gz")))
    n_in = sum(map(_count, Path(source).iterdir()))
    return {
        "seconds": seconds,
        "documents_per_s": n_in / seconds,
        "n_in": n_in,
        "n_kept": n_kept,
    }


def _filters(language: str) -> list[Any]:
    """Gopher's, C4's and FineWeb's rules."""
    if language == "en":
        return [
            GopherRepetitionFilter(),
            GopherQualityFilter(),
            C4QualityFilter(filter_no_terminal_punct=False),
            FineWebQualityFilter(),
        ]
    grams = ((5, 0.198), (6, 0.182), (7, 0.167), (8, 0.154), (9, 0.14), (10, 0.127))
    return [
        GopherRepetitionFilter(
            language=LANGUAGES[language],
            dup_line_frac=0.287,
            top_n_grams=((2, 0.256), (3, 0.201), (4, 0.171)),
            dup_n_grams=grams,
        ),
        GopherQualityFilter(
            language=LANGUAGES[language],
            min_avg_word_length=1,
            max_avg_word_length=5,
            max_non_alpha_words_ratio=0.735,
            stop_words=list(CHINESE_STOP_WORDS),
        ),
        C4QualityFilter(
            language=LANGUAGES[language], filter_no_terminal_punct=False, min_words_per_line=-1
        ),
        FineWebQualityFilter(
            language=LANGUAGES[language],
            line_punct_thr=0.106,
            short_line_thr=1.0,
            char_duplicates_ratio=0.1,
            new_line_ratio=0.178,
        ),
    ]


def _stages(
    source: str, folder: str, tasks: int, workers: int, language: str
) -> list[LocalPipelineExecutor]:
    config = MinhashConfig()
    places = {name: f"{folder}/{name}" for name in ("base", "sign", "buckets", "remove", "clean")}

    def stage(name: str, steps: list[Any], n: int) -> LocalPipelineExecutor:
        logs = f"{folder}/logs/{name}"
        return LocalPipelineExecutor(steps, tasks=n, workers=min(workers, n), logging_dir=logs)

    filters = [JsonlReader(source), *_filters(language), JsonlWriter(places["base"])]
    signature = MinhashDedupSignature(
        output_folder=places["sign"], config=config, language=LANGUAGES[language]
    )
    buckets = MinhashDedupBuckets(places["sign"], places["buckets"], config=config)
    cluster = MinhashDedupCluster(places["buckets"], places["remove"], config=config)
    finish = [
        JsonlReader(places["base"]),
        MinhashDedupFilter(input_folder=places["remove"]),
        PIIFormatter(),
        JsonlWriter(places["clean"]),
    ]
    return [
        stage("filter", filters, tasks),
        stage("sign", [JsonlReader(places["base"]), signature], tasks),
        stage("buckets", [buckets], config.num_buckets),
        stage("cluster", [cluster], 1),
        stage("finish", finish, tasks),
    ]


def _count(path: Path) -> int:
    data = path.read_bytes()
    return (gzip.decompress(data) if path.suffix == ".gz" else data).count(b"\n")
