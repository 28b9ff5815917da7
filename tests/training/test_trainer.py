"""The loop: equal steps however they are cut, exact resume, and a stop before harm is done."""

import copy
import os
import signal
import threading
import time

import pytest
import torch

from scratchlm.data.loader import Batch
from scratchlm.data.rows import IGNORE
from scratchlm.model.config import ModelConfig
from scratchlm.model.transformer import Transformer
from scratchlm.training.clock import Clock
from scratchlm.training.optimizers import OptimConfig, ScheduleConfig
from scratchlm.training.stop import NonFiniteError, OutOfMemoryError, explain_out_of_memory
from scratchlm.training.trainer import TrainConfig, Trainer

V, T = 32, 16
HOLD_AND_COOL = ScheduleConfig(kind="wsd", warmup=4, floor=0.1, cooldown=0.5)


def make_model(seed=0, **sizes) -> Transformer:
    sizes = {"vocab_size": V, "n_layers": 2, "d_model": 32, "n_heads": 2, "max_seq_len": T, **sizes}
    torch.manual_seed(seed)
    model = Transformer(ModelConfig(**sizes))
    model.initialise()
    return model


def rows(n: int, count: int) -> Batch:
    """Micro-batch n: drawn from n alone, with a different share of targets in every row."""
    g = torch.Generator().manual_seed(n)
    tokens = torch.randint(0, V, (count, T + 1), generator=g)
    targets = tokens[:, 1:].clone()
    for i in range(count):
        targets[i, : (7 * n + 3 * i) % T] = IGNORE
    return Batch(tokens[:, :-1].contiguous(), targets)


def stream(count):
    def batches(start):
        n = start
        while True:
            yield rows(n, count)
            n += 1

    return batches


def make_trainer(model, batches=None, hooks=(), optim=None, schedule=None, clock=None, **train):
    train = {"steps": 4, "micro_batch": 4, "precision": "float32", **train}
    return Trainer(
        model,
        batches or stream(train["micro_batch"]),
        TrainConfig(**train),
        optim or OptimConfig(),
        schedule or ScheduleConfig(warmup=2),
        seq_len=T,
        hooks=hooks,
        clock=clock,
    )


def test_one_batch_of_eight_steps_as_eight_of_one_with_unequal_masks():
    whole = rows(0, 8)

    def in_pieces(_start):
        for i in range(8):
            yield Batch(whole.tokens[i : i + 1], whole.targets[i : i + 1])

    one, eight = make_model(), make_model()
    make_trainer(one, lambda _start: iter([whole]), steps=1, micro_batch=8).run()
    make_trainer(eight, in_pieces, steps=1, micro_batch=1, accumulate=8).run()
    for (name, a), b in zip(one.named_parameters(), eight.parameters(), strict=True):
        # Adam's first step is lr * sign: rounding of the gradient moves it by parts of lr = 1e-3.
        torch.testing.assert_close(a, b, rtol=0, atol=2e-5, msg=name)


RESUMES = {
    "adamw": {"optim": OptimConfig()},
    "muon": {"optim": OptimConfig(optimizer="muon", lr=0.02, momentum_warmup=3)},
    "bfloat16": {"optim": OptimConfig(), "precision": "bfloat16"},
    "float16": {"optim": OptimConfig(), "precision": "float16"},
}


@pytest.mark.parametrize("case", RESUMES)
def test_resume_is_exact_with_dropout_and_accumulation(case):
    def trainer(model):
        losses = []
        setup = {"steps": 6, "accumulate": 2, **RESUMES[case]}
        result = make_trainer(
            model, hooks=[(1, lambda t: losses.append(t.last.loss_nats))], **setup
        )
        return result, losses

    unbroken = make_model(dropout=0.2)
    first, losses = trainer(unbroken)
    kept = {}
    first.hooks.append((1, lambda t: keep(t) if t.step == 3 else None))

    def keep(t):
        kept["weights"] = copy.deepcopy(t.model.state_dict())
        kept["state"] = copy.deepcopy(t.state_dict())

    first.run()
    resumed = make_model(seed=99, dropout=0.2)
    resumed.load_state_dict(kept["weights"])
    second, later = trainer(resumed)
    second.load_state_dict(kept["state"])
    second.run()
    assert later == losses[3:]
    for a, b in zip(unbroken.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_a_step_that_is_not_finite_is_not_taken(what):
    model = make_model()
    before = copy.deepcopy(model.state_dict())

    def objective(model, tokens, _targets, _segments):
        total = model(tokens).square().sum()
        return total * float("nan") if what == "loss" else total.sqrt() * 0 + (total * 0).sqrt()

    trainer = make_trainer(model)
    trainer._objective = objective
    with pytest.raises(NonFiniteError, match=rf"step 1 was not taken: the {what} is not a finite"):
        trainer.run()
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, before[name])


def test_float16_overflow_halves_the_scale_and_leaves_the_step_out():
    model = make_model()
    trainer = make_trainer(model, precision="float16", steps=1)
    trainer.optimizers.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**100)
    before = copy.deepcopy(model.state_dict())
    trainer.run()
    assert trainer.scaler.get_scale() == 2.0**99
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, before[name])


def test_clipping_shortens_the_gradient_and_zero_turns_it_off():
    norms = {}
    for clip in (0.0, 1e-3):
        model = make_model()
        trainer = make_trainer(model, optim=OptimConfig(grad_clip=clip), steps=1)
        trainer.optimizers.zero_grad = lambda: None
        trainer.run()
        grads = [p.grad for p in model.parameters()]
        norms[clip] = (trainer.last.grad_norm, torch.nn.utils.get_total_norm(grads).item())
    assert norms[0.0][0] == pytest.approx(norms[0.0][1])
    assert norms[1e-3][1] == pytest.approx(1e-3, rel=1e-3)
    assert norms[1e-3][0] == pytest.approx(norms[0.0][0])


@pytest.mark.skipif(os.name == "nt", reason="Windows sends no SIGTERM to a handler")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_run_after_its_step(number):
    ended, saved = [], []
    hooks = [(0, lambda t: ended.append(t.step)), (1, lambda t: t.is_last and saved.append(t.step))]
    trainer = make_trainer(make_model(), steps=100_000, hooks=hooks)
    threading.Thread(
        target=lambda: (time.sleep(0.3), os.kill(os.getpid(), number)), daemon=True
    ).start()
    reason = trainer.run()
    assert reason == ("SIGTERM" if number == signal.SIGTERM else "Ctrl-C")
    assert saved == [trainer.step]
    assert ended == []  # evaluations and samples would keep whoever interrupts waiting
    assert 0 < trainer.step < 100_000


def test_out_of_memory_says_which_three_settings_to_change_and_to_what():
    with (
        pytest.raises(
            OutOfMemoryError, match=r"train\.micro_batch = 4 with train\.accumulate = 6"
        ) as error,
        explain_out_of_memory(micro_batch=8, accumulate=3, seq_len=512),
    ):
        raise torch.OutOfMemoryError("CUDA out of memory")
    assert "data.seq_len = 256" in str(error.value)
    assert "model.d_model" in str(error.value)


def test_other_errors_stay_what_they_are():
    with pytest.raises(RuntimeError, match="shapes"), explain_out_of_memory(8, 1, 512):
        raise RuntimeError("shapes do not fit")


def test_a_compiler_that_fails_is_done_without(monkeypatch, caplog):
    def broken(*_args):
        raise RuntimeError("no C++ compiler")

    monkeypatch.setattr(torch, "compile", lambda _objective, **_: broken)
    losses = []
    hook = (1, lambda t: losses.append(t.last.loss_nats))
    make_trainer(make_model(dropout=0.1), compile=True, hooks=[hook]).run()
    assert "torch.compile failed, so it is not used: RuntimeError: no C++ compiler" in caplog.text
    plain = []
    hook = (1, lambda t: plain.append(t.last.loss_nats))
    make_trainer(make_model(dropout=0.1), hooks=[hook]).run()
    assert losses == plain


def test_a_trainer_tells_its_hooks_when_the_clock_decided(time):
    seen = []

    def note(trainer):
        time.now += 1.0
        seen.append((trainer.step, trainer.decided, trainer.last.lr))

    clock = Clock(HOLD_AND_COOL, time.now, budget=40.0)
    trainer = make_trainer(make_model(), schedule=HOLD_AND_COOL, hooks=[(1, note)], clock=clock)
    assert trainer.run() == "the time is over"
    assert 37 < time.now - 1000 <= 40
    assert [step for step, decided, _ in seen if decided] == [clock.cooling.begin]
    rates = [rate for *_, rate in seen]
    assert rates[3] == max(rates)
    assert rates[-1] < 0.2 * rates[3]
    assert trainer.n_steps == trainer.step == clock.cooling.end


def test_a_run_that_goes_on_after_the_decision_ends_bit_for_bit_the_same(time):
    states = {}

    def note(trainer):
        time.now += 1.0
        if trainer.decided:
            weights = {name: w.clone() for name, w in trainer.model.state_dict().items()}
            states[trainer.step] = weights, copy.deepcopy(trainer.state_dict())

    def trainer():
        clock = Clock(HOLD_AND_COOL, time.now, budget=30.0)
        return make_trainer(make_model(), schedule=HOLD_AND_COOL, hooks=[(1, note)], clock=clock)

    whole = trainer()
    whole.run()
    weights, state = next(iter(states.values()))
    again = trainer()
    again.model.load_state_dict(weights)
    again.load_state_dict(state)
    again.run()
    assert again.step == whole.step
    for one, other in zip(whole.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(one, other)
