"""When memory is short a step is computed in pieces, and nothing but the time changes."""

import copy
import subprocess
import sys

import pytest
import torch

from scratchlm.data.rows import IGNORE
from scratchlm.model.config import ModelConfig
from scratchlm.model.transformer import Transformer
from scratchlm.training.objectives import Goal, count_targets, next_token_total
from scratchlm.training.optimizers import OptimConfig, ScheduleConfig
from scratchlm.training.stop import OutOfMemoryError
from scratchlm.training.trainer import TrainConfig, Trainer

ROWS, T = 7, 8


class Rows:
    """Batch n of random rows; the later a row, the fewer of its targets count."""

    def __init__(self, n: int) -> None:
        tokens = torch.randint(20, (ROWS, T + 1), generator=torch.Generator().manual_seed(n))
        self.tokens, self.targets, self.segments = tokens[:, :-1], tokens[:, 1:].clone(), None
        for i in range(ROWS):
            self.targets[i, T - i :] = IGNORE


def train(room: int, *, steps: int = 6, dropout: float = 0.0, state=None, objective=None):
    """Losses of a run on a device with room for so many rows, and its trainer."""
    torch.manual_seed(0)
    sizes = {"vocab_size": 20, "n_layers": 1, "d_model": 16, "n_heads": 2, "max_seq_len": T}
    model = Transformer(ModelConfig(**sizes, dropout=dropout))
    model.initialise()

    def fits(model, tokens, targets, segments):
        if len(tokens) > room:
            raise MemoryError
        return next_token_total(model, tokens, targets, segments)

    losses, states = [], []
    trainer = Trainer(
        model,
        lambda first: (Rows(n) for n in range(first, 1000)),
        TrainConfig(steps=steps, micro_batch=ROWS, accumulate=2, precision="float32"),
        OptimConfig(lr=0.01),
        ScheduleConfig(kind="constant"),
        seq_len=T,
        goal=Goal(objective or fits, lambda batch: count_targets(batch.targets)),
        hooks=[
            (1, lambda t: losses.append(t.last.loss_nats)),
            (1, lambda t: states.append(copy.deepcopy((t.state_dict(), t.model.state_dict())))),
        ],
    )
    if state:
        model.load_state_dict(state[1])
        trainer.load_state_dict(state[0])
    trainer.run()
    return losses, trainer, states


@pytest.mark.parametrize(("room", "pieces"), [(6, 2), (3, 4), (2, 4), (1, 8)])
def test_the_loss_curve_is_that_of_a_larger_machine(room, pieces, caplog):
    losses, trainer, _ = train(ROWS)
    short, halved, _ = train(room)
    assert (trainer.pieces, halved.pieces) == (1, pieces)
    assert short == pytest.approx(losses, rel=1e-6)
    for a, b in zip(trainer.model.parameters(), halved.model.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    half = -(-ROWS // pieces)
    assert f"from now on {half} rows at a time instead of 7" in caplog.text
    assert f"train.micro_batch = {half} and train.accumulate = {2 * -(-7 // half)}" in caplog.text


def test_a_resumed_run_goes_on_in_pieces_bit_for_bit():
    losses, _, states = train(3, dropout=0.2)
    later, trainer, _ = train(ROWS, dropout=0.2, state=states[2])  # there is room again
    assert trainer.pieces == 4
    assert later == losses[3:]


def one_step(precision: str, recompute: bool) -> tuple[dict[str, torch.Tensor], int]:
    """The weights after a step, and how many numbers were kept for its backward passes."""
    torch.manual_seed(0)
    sizes = {"vocab_size": 20, "n_layers": 3, "d_model": 32, "n_heads": 2, "max_seq_len": T}
    model = Transformer(ModelConfig(**sizes, dropout=0.2))
    model.initialise()
    kept = []
    train = TrainConfig(steps=1, precision=precision, recompute=recompute)
    batches = {"batches": lambda first: (Rows(n) for n in range(first, 1000)), "seq_len": T}
    trainer = Trainer(
        model, config=train, optim=OptimConfig(), schedule=ScheduleConfig(), **batches
    )
    with torch.autograd.graph.saved_tensors_hooks(
        lambda x: kept.append(x.numel()) or x, lambda x: x
    ):
        trainer.run()
    return model.state_dict(), sum(kept)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_computing_again_changes_no_bit_and_keeps_less(precision):
    (plain, much), (again, little) = (one_step(precision, again) for again in (False, True))
    assert all(torch.equal(plain[name], again[name]) for name in plain)
    assert little < much / 2


def test_one_row_that_does_not_fit_is_explained():
    with pytest.raises(OutOfMemoryError, match=r"model\.n_layers or model\.d_model"):
        train(0)


def test_other_errors_are_not_taken_for_it():
    def broken(*_):
        raise RuntimeError("something else")

    with pytest.raises(RuntimeError, match="something else"):
        train(1, objective=broken)


LIMITED = """
import resource, sys
import torch
from scratchlm.base.log import show_log
from scratchlm.base.runtime import peak_memory
from scratchlm.model.config import ModelConfig
from scratchlm.model.transformer import Transformer
from scratchlm.training.optimizers import OptimConfig, ScheduleConfig
from scratchlm.training.trainer import TrainConfig, Trainer

class Rows:
    tokens, targets, segments = *torch.randint(4000, (2, 64, 128)), None

model = Transformer(ModelConfig(vocab_size=4000, n_layers=2, d_model=128, n_heads=2))
model.initialise()
config = TrainConfig(steps=2, micro_batch=64, precision=sys.argv[1])
trainer = Trainer(model, lambda _: iter([Rows(), Rows()]), config, OptimConfig(), ScheduleConfig(),
                  seq_len=128)
show_log()
pages = int(open("/proc/self/statm").read().split()[0])
limit = pages * resource.getpagesize() + int(sys.argv[2]) * 2**20
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
trainer.run()
print("pieces", trainer.pieces)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits its address space as Linux does")
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_real_limit_of_memory(precision):
    command = [sys.executable, "-c", LIMITED, precision, "150"]
    done = subprocess.run(command, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    assert "out of memory in step 1: from now on" in done.stderr
    assert int(done.stdout.split()[-1]) >= 2
