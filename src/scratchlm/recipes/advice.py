"""What would make a planned run fit, or end sooner: sentences that are true of it."""

from collections.abc import Iterator
from dataclasses import replace

import torch

from scratchlm.base import device as devices
from scratchlm.base.duration import duration
from scratchlm.model.config import ModelConfig
from scratchlm.model.transformer import Transformer
from scratchlm.recipes.plan_facts import Plan
from scratchlm.recipes.run_config import RunConfig

READINGS = 16  # more of one text teach next to nothing (arXiv:2305.16264)
TOKENS_PER_PARAMETER = 20  # that make the best of a given work (arXiv:2203.15556)
LONG = 3600.0  # seconds from which a smaller model is worth a sentence
ASIDE = 0.15  # share of the time that evaluations, saves or compiling may take unmentioned


def advise(plan: Plan, fitting: RunConfig | None) -> Iterator[str]:
    """Sentences, the most pressing first.

    fitting   the same steps in micro-batches that fit; None when it fits, or none does
    """
    if not plan.fits:
        yield _to_fit(plan, fitting)
    yield from _on_readings(plan)
    yield from _on_size(plan)
    yield from _on_the_rest(plan)


def _to_fit(plan: Plan, fitting: RunConfig | None) -> str:
    assert plan.memory_limit is not None
    need, there = plan.memory.total / 1e9, plan.memory_limit / 1e9
    begin = (
        f"It does not fit: it needs {need:,.1f} GB of the {there:,.1f} GB there, of which a tenth "
        "is left to others."
    )
    if fitting is not None:
        train = fitting.train
        return (
            f"{begin} --train.micro-batch {train.micro_batch} --train.accumulate "
            f"{train.accumulate} fits, with the same global batch and the same loss curve."
        )
    if not plan.config.train.recompute:
        begin += " --train.recompute keeps less, and takes about a third longer."
    muon = " Muon's state is half as large as AdamW's (optim.optimizer)."
    return (
        f"{begin} No micro-batch makes it fit: take a smaller model (model.n_layers, "
        f"model.d_model) or shorter rows (data.seq_len = {max(1, plan.config.data.seq_len // 2)})."
        f"{muon if plan.config.optim.optimizer == 'adamw' else ''}"
    )


def _on_readings(plan: Plan) -> Iterator[str]:
    readings, train = plan.readings, plan.config.train
    if readings is None:
        return
    if readings > 1.25 * READINGS:
        steps = max(1, round(train.steps * READINGS / readings))
        seconds = steps * plan.step_s
        yield (
            f"The text is read {readings:,.1f} times; beyond {READINGS} readings little is learned "
            f"(arXiv:2305.16264). --train.steps {steps} would be {READINGS}, and take "
            f"{duration(seconds)} of training."
        )
    elif readings < 0.5:
        steps = round(train.steps / readings)
        yield (
            f"Only {readings:.0%} of the text is read. A whole reading is --train.steps {steps}, "
            f"{duration(steps * plan.step_s)} of training."
        )


def _on_size(plan: Plan) -> Iterator[str]:
    """A model that is too large for its tokens, in a run that takes long."""
    ratio = plan.tokens / plan.parameters.total
    if plan.times.training < LONG or ratio > TOKENS_PER_PARAMETER / 4:
        return
    small = _half_as_wide(plan.config.model)
    if small is None:
        return
    with torch.device("meta"):
        flops = Transformer(small).flops_per_token(plan.config.data.seq_len)
    share = flops * plan.tokens / plan.flops
    yield (
        f"There are {ratio:.1f} tokens for each parameter; about {TOKENS_PER_PARAMETER} make the "
        f"best of the work (arXiv:2203.15556). --model.d-model {small.d_model} --model.n-heads "
        f"{small.n_heads} would take {share:.0%} of the work."
    )


def _half_as_wide(model: ModelConfig) -> ModelConfig | None:
    if model.n_heads % 2 or model.d_model % 2 or model.d_ff or model.n_kv_heads or model.d_head:
        return None  # sizes that hang together by hand
    return replace(model, d_model=model.d_model // 2, n_heads=model.n_heads // 2)


def _on_the_rest(plan: Plan) -> Iterator[str]:
    times, train = plan.times, plan.config.train
    if times.evaluations > ASIDE * times.total:
        yield (
            f"Evaluations take {times.evaluations / times.total:.0%} of the time: raise "
            "train.eval_every, or lower train.eval_batches."
        )
    if times.saves > ASIDE * times.total and train.save_every:
        yield (
            f"Checkpoints take {times.saves / times.total:.0%} of the time: raise train.save_every "
            "and train.eval_every."
        )
    if times.compilation > ASIDE * times.total:
        yield (
            f"Compiling takes {duration(times.compilation)}, a large part of so short a run: try "
            "--no-train.compile."
        )
    if plan.measured and train.precision == "float32":
        dtype, why = devices.resolve_precision("auto", torch.device(plan.device))
        if dtype != torch.float32:
            yield f"--train.precision bfloat16 would be faster: {why}."
