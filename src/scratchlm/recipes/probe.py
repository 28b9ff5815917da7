"""Short measured runs, each in a process of its own, so that speed and peak memory are its own.

    python -m scratchlm.recipes.probe    reads a job from standard input, as JSON, and answers so

Rows are random ids: time and memory depend on shapes alone.
"""

import dataclasses
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from scratchlm.base import device as devices
from scratchlm.base.config import from_dict, to_dict
from scratchlm.base.errors import ConfigError, UserError
from scratchlm.base.runtime import peak_memory
from scratchlm.data.loader import Batch
from scratchlm.evaluation.loss import held_out_loss
from scratchlm.generation.cpu import lay_out_for_decoding
from scratchlm.generation.engine import Engine
from scratchlm.generation.sampling import Sampling
from scratchlm.generation.sequence import Request
from scratchlm.model.config import ModelConfig
from scratchlm.model.transformer import Transformer
from scratchlm.recipes.run_config import RunConfig
from scratchlm.training.objectives import TokenBatch
from scratchlm.training.trainer import Trainer

N_WARMUP = 2  # steps: the first compiles, the second is the first with an optimizer's state
N_SAMPLE = 24  # tokens of a sample that is timed


@dataclass(frozen=True)
class TrainingSpeed:
    """What training steps took, in seconds, medians.

    start          from the start of the process to its first step: imports, weights
    first_step     what the first step took beyond a later one: compilation
    micro_batch    forward and backward pass of one
    update         clipping and the optimizer
    evaluation     of one batch of the validation split
    sample_token   of one token of a sample
    matmul_flops   per second, the most that a matrix product reached
    program        bytes that the process held before it had a tensor; None where unknown
    peak_memory    bytes, of the process or of the GPU's tensors; None where unknown
    """

    start: float
    first_step: float
    micro_batch: float
    update: float
    evaluation: float
    sample_token: float
    matmul_flops: float
    program: int | None
    peak_memory: int | None


@dataclass(frozen=True)
class DecodingSpeed:
    """What writing with a model took.

    tokens_per_s   of all sequences together
    matmul_flops   per second, the most that a matrix product reached
    peak_memory    bytes; None where unknown
    """

    tokens_per_s: float
    matmul_flops: float
    peak_memory: int | None


def probe_training(config: RunConfig, device: str, seconds: float) -> TrainingSpeed:
    """Train for about so many seconds after the warm-up, in a process of its own.

    config   resolved: its vocabulary and precision are set
    raises   UserError for what goes wrong in it, a lack of memory among it
    """
    job = {"config": to_dict(config), "device": device, "seconds": seconds, "began": time.time()}
    return TrainingSpeed(**_apart("training", job))


def probe_decoding(
    model: ModelConfig, n_sequences: int, device: str, seconds: float
) -> DecodingSpeed:
    """Write several texts at once, in float32, for about so many seconds; likewise apart."""
    job = {"model": to_dict(model), "n_sequences": n_sequences}
    return DecodingSpeed(**_apart("decoding", {**job, "device": device, "seconds": seconds}))


def step_seconds(config: RunConfig, device: torch.device, seconds: float) -> float:
    """What one step takes, measured here and now for about so long, and for three steps at least.

    config   resolved, as in `probe_training`; this process keeps the memory that its first use took
    """
    times: list[float] = []
    deadline = float("inf")

    def note(trainer: Trainer) -> None:
        nonlocal deadline
        assert trainer.last is not None
        times.append(trainer.last.step_ms / 1e3)
        if len(times) == 1:  # the first makes the optimizer's state, or compiles
            deadline = time.perf_counter() + seconds
        elif len(times) > 2 and time.perf_counter() >= deadline:
            trainer.stop_reason = "measured"

    _trainer(config, device, note).run()
    return statistics.median(times[1:])


def _trainer(
    settings: RunConfig,
    device: torch.device,
    note: Callable[[Trainer], None],
    kind: type[Trainer] = Trainer,
) -> Trainer:
    """A trainer of random weights on random ids, which `note` is to stop."""
    model = Transformer(settings.model)
    model.initialise()
    batch = _random_batch(settings)
    return kind(
        model.to(device),
        lambda _: _endless(batch),
        dataclasses.replace(settings.train, steps=1_000_000, budget="", until=""),
        settings.optim,
        settings.schedule,
        seq_len=settings.data.seq_len,
        hooks=[(1, note)],
    )


def _apart(what: str, job: dict[str, Any]) -> dict[str, Any]:
    command = [sys.executable, "-m", "scratchlm.recipes.probe"]
    # In a session of its own it does not hear Ctrl-C: this process does, and ends it.
    ended = subprocess.run(
        command,
        input=json.dumps({"what": what, "job": job}),
        stdout=subprocess.PIPE,
        encoding="utf-8",
        start_new_session=True,
        check=False,
    )
    if ended.returncode < 0:
        raise ConfigError(
            f"the system ended the probe (signal {-ended.returncode}), most likely because memory "
            "ran out. Lower train.micro_batch, and raise train.accumulate by as much."
        )
    answer = json.loads((ended.stdout.strip() or "{}").splitlines()[-1])
    if "error" in answer:
        raise ConfigError(answer["error"])
    if ended.returncode:
        raise RuntimeError(f"the probe failed with exit status {ended.returncode}; see above")
    result: dict[str, Any] = answer["result"]
    return result


class _TimedTrainer(Trainer):
    """A trainer that notes how long its updates take."""

    update_s = 0.0

    def _update(self, total: float, micro_batches: list[TokenBatch]) -> float:
        devices.synchronise(self.device)
        start = time.perf_counter()
        norm = super()._update(total, micro_batches)
        devices.synchronise(self.device)
        self.update_s = time.perf_counter() - start
        return norm


def _training(config: dict[str, Any], device: str, seconds: float, began: float) -> TrainingSpeed:
    program = peak_memory()
    settings = from_dict(RunConfig, config)
    where, _ = devices.choose_device(device)
    # Two micro-batches show all that more would: the second meets the gradients of the first.
    accumulate = min(settings.train.accumulate, 2)
    settings = settings.replace("train", accumulate=accumulate)
    steps: list[tuple[float, float]] = []  # seconds of the whole, of its update
    deadline = float("inf")

    def note(trainer: Trainer) -> None:
        nonlocal deadline
        assert isinstance(trainer, _TimedTrainer)
        assert trainer.last is not None
        steps.append((trainer.last.step_ms / 1e3, trainer.update_s))
        now = time.perf_counter()
        if len(steps) == N_WARMUP:
            deadline = now + seconds
        if now >= deadline and len(steps) >= N_WARMUP + 2:
            trainer.stop_reason = "measured"

    trainer = _trainer(settings, where, note, _TimedTrainer)
    start = time.time() - began
    trainer.run()
    peak = devices.memory_in_use(where)
    step, update = (statistics.median(column) for column in zip(*steps[N_WARMUP:], strict=True))
    return TrainingSpeed(
        start=start,
        first_step=max(0.0, steps[0][0] - step),
        micro_batch=(step - update) / accumulate,
        update=update,
        evaluation=_evaluation(trainer.model, _random_batch(settings)),
        sample_token=_sample_token(trainer.model),
        matmul_flops=devices.matmul_flops(where, trainer.dtype, seconds=0.2),
        program=program,
        peak_memory=peak,
    )


def _random_batch(settings: RunConfig) -> Batch:
    shape = settings.train.micro_batch, settings.data.seq_len
    tokens = torch.randint(settings.model.vocab_size, shape)
    segments = torch.zeros_like(tokens) if settings.data.rows == "packed" else None
    return Batch(tokens, tokens.roll(-1, 1), segments)


def _endless(batch: Batch) -> Iterator[Batch]:
    while True:
        yield batch


def _evaluation(model: Transformer, batch: Batch) -> float:
    times = [_timed(lambda: held_out_loss(model, [batch])) for _ in range(3)]
    return min(times)


def _sample_token(model: Transformer) -> float:
    """As `samples.sample_text`: in the dtype of the weights."""
    dtype, model.compute_dtype = model.compute_dtype, None
    model.eval()
    n = min(N_SAMPLE, model.config.max_seq_len)
    engine = Engine(model)
    request = Request([0], Sampling(max_new_tokens=n, seed=0))
    seconds = min(_timed(lambda: list(engine.stream(request))) for _ in range(2))
    model.compute_dtype = dtype
    return seconds / n


def _timed(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _decoding(
    model: dict[str, Any], n_sequences: int, device: str, seconds: float
) -> DecodingSpeed:
    where, _ = devices.choose_device(device)
    writer = Transformer(from_dict(ModelConfig, model))
    writer.initialise()
    writer.to(where).eval()
    lay_out_for_decoding(writer)
    n = writer.config.max_seq_len - 1
    n_tokens, spent, deadline = 0, 0.0, time.perf_counter() + seconds
    while not n_tokens or time.perf_counter() < deadline:
        engine = Engine(writer)
        engine.add(Request([0], Sampling(max_new_tokens=n, seed=0), n=n_sequences))
        engine.step()  # takes the sequences up
        start = time.perf_counter()
        for _ in range(n - 1):
            engine.step()
            n_tokens += n_sequences
            if n_tokens > 8 * n_sequences and time.perf_counter() > deadline:
                break
        spent += time.perf_counter() - start
    peak = devices.memory_in_use(where)
    flops = devices.matmul_flops(where, torch.float32, seconds=0.2)
    return DecodingSpeed(n_tokens / spent, flops, peak)


JOBS: dict[str, Callable[..., Any]] = {"training": _training, "decoding": _decoding}


def _answer() -> int:
    """The other end of `_apart`."""
    asked = json.load(sys.stdin)
    try:
        result = JOBS[asked["what"]](**asked["job"])
        print(json.dumps({"result": dataclasses.asdict(result)}))
    except UserError as error:
        print(json.dumps({"error": str(error)}))
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(_answer())
