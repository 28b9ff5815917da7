"""Our side of the evaluation benchmark."""

import json
import math
import time
from pathlib import Path
from typing import Any

from scratchlm.checkpoint.folder import load_model, load_tokenizer
from scratchlm.evaluation.likelihood import Scorer
from scratchlm.evaluation.tasks import load_task


def write_requests(data: str, limits: dict[str, int], out: str) -> dict[str, Any]:
    """What every side is asked: a file for each task; returns how much it is."""
    facts = {}
    for name, limit in limits.items():
        task = load_task(name, data, limit=limit)
        items = [
            {"id": item.id, "right": item.right, "requests": task.requests(item)}
            for item in task.items
        ]
        path = Path(out) / f"{name}.json"
        path.write_text(json.dumps(items, ensure_ascii=False), encoding="utf-8")
        n_requests = sum(len(item["requests"]) for item in items)
        facts[name] = {"items": len(items), "requests": n_requests}
    return facts


def score(model: str, requests: str, out: str) -> dict[str, Any]:
    """Score them all with `Scorer`."""
    loaded = load_model(Path(model)).eval()
    scorer = Scorer(loaded, load_tokenizer(Path(model), loaded.config))
    items = json.loads(Path(requests).read_text(encoding="utf-8"))
    asked = [(context, more) for item in items for context, more in item["requests"]]
    begin = time.perf_counter()
    found = [(one.nats, one.greedy) for one in scorer.loglikelihoods(asked)]
    seconds = time.perf_counter() - begin
    return summary(items, found, seconds, out)


def summary(
    items: list[dict[str, Any]], found: list[tuple[float, bool]], seconds: float, out: str
) -> dict[str, Any]:
    """Write what came of each item, and return the scores.

    A pair is right where its first sentence is likelier; one continuation where it is greedy.
    """
    outcomes, start = [], 0
    for item in items:
        own = found[start : start + len(item["requests"])]
        start += len(own)
        nats = [one[0] for one in own]
        margin = nats[0] - nats[1] if len(nats) == 2 else 0.0
        right = nats.index(max(nats)) == item["right"] if len(nats) == 2 else own[0][1]
        outcomes.append({"id": item["id"], "nats": nats, "right": right, "margin": margin})
    Path(out).write_text(json.dumps(outcomes), encoding="utf-8")
    result = {
        "seconds": seconds,
        "requests_per_s": len(found) / seconds,
        "right": sum(one["right"] for one in outcomes) / len(outcomes),
    }
    if len(outcomes[0]["nats"]) == 1:
        mean = math.fsum(one["nats"][0] for one in outcomes) / len(outcomes)
        result["perplexity"] = math.exp(-mean)
    return result
