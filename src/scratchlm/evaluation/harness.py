"""scratchlm's models inside lm-evaluation-harness, with its tasks and its numbers.

    import lm_eval
    from scratchlm.evaluation.harness import harness_model

    lm_eval.simple_evaluate(model=harness_model(model, tokenizer), tasks=["blimp", "piqa"])

Scores are those of its own backend for transformers (`HFLM`) with the same weights, up to the
rounding of floats; how the model is run is ours (`likelihood.py`, `generation/engine.py`).
"""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scratchlm.base.errors import ConfigError, MissingExtraError
from scratchlm.evaluation.answers import write
from scratchlm.evaluation.likelihood import Scorer
from scratchlm.generation.engine import Engine
from scratchlm.model.transformer import Transformer
from scratchlm.tokenizer.tokenizer import Tokenizer

_MAX_NEW_TOKENS = 256  # where a task says nothing; HFLM's


def harness_model(
    model: Transformer, tokenizer: Tokenizer, *, max_tokens_per_batch: int = 0, max_batch: int = 64
) -> Any:
    """The model as an `lm_eval.api.model.LM`, for `lm_eval.simple_evaluate(model=...)`.

    model                  put into evaluation mode
    max_tokens_per_batch   of `Scorer`
    max_batch              of `Engine`
    raises                 MissingExtraError; ConfigError from a task that samples its answers
    """
    return _adapter()(model.eval(), tokenizer, max_tokens_per_batch, max_batch)


def run_harness(
    model: Transformer,
    tokenizer: Tokenizer,
    tasks: Sequence[str | dict[str, Any]],
    *,
    include: Path | str | None = None,
    fewshot: int | None = None,
    limit: int | None = None,
) -> dict[str, Any]:
    """Evaluate by lm-evaluation-harness and return what its `simple_evaluate` returns.

    tasks     names, or task settings as its YAML files have them
    include   a folder with task files of one's own: with data_files on the disk (dataset_path:
              json) nothing is fetched from the network
    fewshot   examples before each question; None: as the task says
    limit     items of each task; None: all
    raises    MissingExtraError; what the harness raises
    """
    _library()
    import lm_eval
    from lm_eval.tasks import TaskManager

    by_name = any(isinstance(task, str) for task in tasks)  # else its own need not be searched
    folder = None if include is None else str(include)
    manager = TaskManager(include_path=folder, include_defaults=by_name)
    found: dict[str, Any] = lm_eval.simple_evaluate(
        model=harness_model(model, tokenizer),
        tasks=list(tasks),
        num_fewshot=fewshot,
        limit=limit,
        task_manager=manager,
    )
    return found


def _library() -> Any:
    """lm_eval's module of models."""
    try:
        import lm_eval.api.model
    except ImportError:
        raise MissingExtraError(
            "lm_eval", "lm-eval", "evaluating by lm-evaluation-harness"
        ) from None
    return lm_eval.api.model


@functools.cache
def _adapter() -> Any:
    """The class, which can be made only where its base is installed."""
    base = _library().LM

    class ScratchModel(base):  # type: ignore[misc, valid-type]
        """What lm-evaluation-harness asks of a model."""

        def __init__(
            self, model: Transformer, tokenizer: Tokenizer, max_tokens: int, max_batch: int
        ) -> None:
            super().__init__()
            self._scorer = Scorer(model, tokenizer, max_tokens_per_batch=max_tokens)
            self._engine = Engine(model, tokenizer, max_batch=max_batch)
            self._device = self._scorer.device

        def loglikelihood(self, requests: list[Any]) -> list[tuple[float, bool]]:
            """Log-probability of each continuation, and whether it is the greedy one."""
            pairs = [request.args for request in requests]
            found = [(one.nats, one.greedy) for one in self._scorer.loglikelihoods(pairs)]
            for pair, answer in zip(pairs, found, strict=True):
                self.cache_hook.add_partial("loglikelihood", pair, answer)
            return found

        def loglikelihood_rolling(self, requests: list[Any]) -> list[float]:
            """Log-probability of each text."""
            texts = [request.args[0] for request in requests]
            found = [one.nats for one in self._scorer.rolling(texts)]
            for text, answer in zip(texts, found, strict=True):
                self.cache_hook.add_partial("loglikelihood_rolling", (text,), answer)
            return found

        def generate_until(self, requests: list[Any]) -> list[str]:
            """The greedy continuation of each context; requests of equal rules go together."""
            rules: dict[tuple[tuple[str, ...], int], list[int]] = {}
            for i, request in enumerate(requests):
                rules.setdefault(_rule(request.args[1]), []).append(i)
            found = [""] * len(requests)
            for (stop, max_new_tokens), members in rules.items():
                ids = self._scorer.prompt_ids([requests[i].args[0] for i in members])
                texts, _ = write(self._engine, ids, stop, max_new_tokens)
                for i, text in zip(members, texts, strict=True):
                    found[i] = text
                    self.cache_hook.add_partial("generate_until", requests[i].args, text)
            return found

    return ScratchModel


def _rule(settings: dict[str, Any]) -> tuple[tuple[str, ...], int]:
    """Stop strings and length of a task's generation_kwargs."""
    if settings.get("do_sample") or settings.get("temperature"):
        raise ConfigError(
            f"the task draws its answers at random ({settings}): only greedy answers are the same "
            "every time. Set do_sample: false in its generation_kwargs."
        )
    until = settings.get("until") or []
    names = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
    lengths = [settings[name] for name in names if settings.get(name)]
    stop = (until,) if isinstance(until, str) else tuple(filter(None, until))
    return stop, int((lengths or [_MAX_NEW_TOKENS])[0])
