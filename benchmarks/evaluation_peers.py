"""lm-evaluation-harness's side of the evaluation benchmark."""

import json
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from evaluation_ours import summary


def score_by_hflm(model: str, requests: str, out: str, batch_size: int | str) -> dict[str, Any]:
    """Score them all with its backend for transformers, in float32."""
    from lm_eval.models.huggingface import HFLM  # only the peers' interpreter has it

    theirs = HFLM(pretrained=model, dtype="float32", device="cpu", batch_size=batch_size)
    items = json.loads(Path(requests).read_text(encoding="utf-8"))
    asked = [
        SimpleNamespace(args=(context, more), task_name="")
        for item in items
        for context, more in item["requests"]
    ]
    begin = time.perf_counter()
    found = theirs.loglikelihood(asked, disable_tqdm=True)
    seconds = time.perf_counter() - begin
    scores = [(float(nats), bool(greedy)) for nats, greedy in found]
    return summary(items, scores, seconds, out)
