"""datatrove's side of the cleaning benchmark, after its own examples/fineweb.py."""

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


def clean(source: str, workers: int) -> dict[str, Any]:
    """Filter, find near-duplicates in datatrove's four stages, mask, write."""
    tasks = len(list(Path(source).iterdir()))
    with tempfile.TemporaryDirectory() as folder:
        began, cpu = time.perf_counter(), time.process_time()
        for stage in _stages(source, folder, tasks, workers):
            stage.run()
        seconds = time.perf_counter() - began
        n_kept = sum(map(_count, Path(folder, "clean").rglob("*.jsonl.gz")))
    n_in = sum(map(_count, Path(source).iterdir()))
    return {
        "seconds": seconds,
        "cpu_seconds": time.process_time() - cpu,
        "documents_per_s": n_in / seconds,
        "n_in": n_in,
        "n_kept": n_kept,
    }


def _stages(source: str, folder: str, tasks: int, workers: int) -> list[LocalPipelineExecutor]:
    config = MinhashConfig()
    places = {name: f"{folder}/{name}" for name in ("base", "sign", "buckets", "remove", "clean")}

    def stage(name: str, steps: list[Any], n: int) -> LocalPipelineExecutor:
        logs = f"{folder}/logs/{name}"
        return LocalPipelineExecutor(steps, tasks=n, workers=min(workers, n), logging_dir=logs)

    filters = [
        JsonlReader(source),
        GopherRepetitionFilter(),
        GopherQualityFilter(),
        C4QualityFilter(filter_no_terminal_punct=False),
        FineWebQualityFilter(),
        JsonlWriter(places["base"]),
    ]
    signature = MinhashDedupSignature(output_folder=places["sign"], config=config)
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
