"""How much memory a training step takes: a formula, part by part, held against measured peaks.

A step passes three moments that can be its peak: the loss, when all activations are there; the end
of the backward pass, when all gradients are; and the optimizer's update. Freed memory is used again
(`base.runtime.keep_freed_memory`), so the largest of them is what the step takes.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import nn

from scratchlm.model.attention import MATMUL_MAX_KEYS
from scratchlm.model.config import ModelConfig
from scratchlm.model.transformer import Transformer
from scratchlm.native import library
from scratchlm.training.cross_entropy import ALIGN, CACHE_NUMBERS, CHUNK_NUMBERS, PLAIN_BELOW

# Python, PyTorch and our modules, before there is a tensor: measured, PyTorch 2.13 for CPUs, Linux,
# x86-64. oneDNN's compiled products and what threads need for themselves come with the first steps.
PROGRAM = 241_000_000
FIRST_STEPS = 29_000_000
COMPILER = 190_000_000  # torch.compile in this process; its helpers are others
# Between tensors, whose sizes differ, the heap has holes. Their share of what comes and goes in a
# step, and of the weights, beside which optimizer and gradients first lie; fitted to 24 measured
# peaks, of models of 2M to 124M weights (glibc; other systems were not measured).
HOLES = {"kernels": (0.18, 0.20), "compiled": (0.10, 0.10), "plain": (0.33, 0.40)}
HOLES_OF_DROPOUT = 0.08  # with our kernels, on top of the first
FLOAT32 = 4  # bytes


@dataclass(frozen=True)
class Memory:
    """Bytes at the peak of a training step, by part.

    moment       which of the three it is
    process      the program itself, before any tensor
    copies       of the weights in the dtype of the computation
    activations  what the blocks keep for the backward pass
    loss         head, logits and their gradients
    temporary    what lives only for this moment
    holes        between tensors, in the heap
    saving       a copy of weights and optimizer that is being written (`checkpoint/behind.py`)
    """

    moment: str
    process: int
    weights: int
    gradients: int
    optimizer: int
    copies: int
    activations: int
    loss: int
    temporary: int
    holes: int = 0
    saving: int = 0

    @property
    def total(self) -> int:
        """The sum of all parts."""
        return sum(value for value in vars(self).values() if isinstance(value, int))


@dataclass(frozen=True)
class StepShape:
    """What the memory of a step depends on beside the model.

    dtype      of the computation; weights, gradients and optimizer are float32
    kernels    our compiled ones serve (`kernels_serve`)
    compiled   by torch.compile, which fuses what our kernels fuse
    recompute  the blocks keep what enters them, and compute the rest again
    segments   rows hold several documents that must not see each other
    shard      processes that share the weights
    states     processes that share the optimizer's state
    saving     a checkpoint is written meanwhile, from a copy
    """

    micro_batch: int
    seq_len: int
    accumulate: int = 1
    dtype: torch.dtype = torch.float32
    optimizer: str = "adamw"
    device: str = "cpu"
    kernels: bool = False
    compiled: bool = False
    recompute: bool = False
    segments: bool = False
    shard: int = 1
    states: int = 1
    saving: bool = False


def kernels_serve(device: str, dtype: torch.dtype, compiled: bool) -> bool:
    """Whether our kernels compute such a step here (`native.ops.usable` asks of a tensor)."""
    serve = device == "cpu" and dtype == torch.bfloat16 and not compiled
    return serve and library.library() is not None


def step_memory(config: ModelConfig, step: StepShape, program: int = PROGRAM) -> Memory:
    """The peak of a training step of a model, whose `vocab_size` must be set.

    program   bytes that the process holds before it has a tensor; of a GPU only tensors count
    """
    return _Step(config, step, program).peak()


class _Step:
    def __init__(self, config: ModelConfig, step: StepShape, program: int = PROGRAM) -> None:
        self.program = program
        with torch.device("meta"):
            self.model = Transformer(config)
        self.config, self.step = self.model.config, step
        self.fused = step.kernels or step.compiled
        self.n_tokens = step.micro_batch * step.seq_len
        self.bytes = step.dtype.itemsize
        self.V, self.D = self.config.vocab_size, self.config.d_model

    def peak(self) -> Memory:
        """The largest of the three moments."""
        step, P = self.step, self.model.n_parameters()
        gradients = FLOAT32 * P // step.shard
        always = {
            "process": self._process(),
            "weights": FLOAT32 * P // step.shard,
            "optimizer": self._optimizer() // step.states,
            "saving": self._saving(),
        }
        kept = gradients if step.accumulate > 1 else 0  # of the micro-batches before
        nothing = {"gradients": gradients, "copies": 0, "activations": 0, "loss": 0}
        table = FLOAT32 * self.V * self.D
        moments = [
            Memory(
                "at the loss",
                gradients=kept,
                copies=self._copies(),
                activations=self.activations,
                loss=self._loss(),
                temporary=0,
                **always,
            ),
            Memory(
                "after the backward pass",
                # The gradients of both uses of a tied matrix, before they are one.
                **{**always, **nothing, "activations": self.block_activations},
                temporary=table * (1 + self.config.tie_embeddings),
            ),
            Memory("in the update", **{**always, **nothing}, temporary=self._update()),
        ]
        if step.recompute:  # the last block's backward pass has that block's activations too
            again = self.activations + self.block_activations
            moments.append(
                replace(moments[0], moment="in the backward pass", activations=again, loss=table)
            )
        peak = max(moments, key=lambda moment: moment.total)
        return replace(peak, holes=self._holes(peak))

    def _process(self) -> int:
        if self.step.device == "cuda":
            return 0
        return self.program + FIRST_STEPS + self.step.compiled * COMPILER

    def _holes(self, peak: Memory) -> int:
        if self.step.device == "cuda":  # of its memory, tensors are counted
            return 0
        path = "kernels" if self.step.kernels else "compiled" if self.step.compiled else "plain"
        of_passing, of_weights = HOLES[path]
        of_passing += HOLES_OF_DROPOUT * (self.step.kernels and self.config.dropout > 0)
        passing = peak.total - peak.process - peak.weights - peak.optimizer - peak.saving
        return int(of_passing * passing + of_weights * peak.weights)

    @cached_property
    def matrices(self) -> list[nn.Parameter]:
        """The weights of the blocks' matrix products."""
        return [weight for weight in self.model.blocks.parameters() if weight.ndim == 2]

    def _optimizer(self) -> int:
        """AdamW keeps two numbers for each weight; Muon one, and a mean for each neuron."""
        P = self.model.n_parameters()
        if self.step.optimizer == "adamw":
            return 2 * FLOAT32 * P
        hidden = sum(weight.numel() for weight in self.matrices)
        return 2 * FLOAT32 * (P - hidden) + FLOAT32 * hidden

    def _saving(self) -> int:
        if not self.step.saving or self.step.device == "cuda":  # then the copy is not there
            return 0
        return FLOAT32 * self.model.n_parameters() + self._optimizer()

    def _copies(self) -> int:
        if self.step.dtype == torch.float32:
            return 0
        copied = self.bytes * sum(weight.numel() for weight in self.matrices)
        return copied // self.config.n_layers if self.step.recompute else copied

    @property
    def activations(self) -> int:
        """What all blocks and the last norm keep."""
        last = self.n_tokens * (self._norm() + self._dropout())
        where = self.step.micro_batch * self.step.seq_len**2  # one byte for each pair of tokens
        mask = where if self.step.segments and not self.step.kernels else 0
        if self.step.recompute:
            return self.config.n_layers * self.n_tokens * self.bytes * self.D + last + mask
        return self.config.n_layers * self.block_activations + last + mask

    @property
    def block_activations(self) -> int:
        """What one block keeps for its backward pass."""
        n_norms = 4 if self.config.parts.after_norms else 2
        per_token = n_norms * self._norm() + self._attention() + self._ffn() + 2 * self._dropout()
        return self.n_tokens * per_token

    def _norm(self) -> int:
        """Input and output of a norm, and what PyTorch keeps beside them."""
        size = 2 * self.bytes * self.D + 2 * FLOAT32
        if self.config.parts.norm == "rmsnorm1":  # in float32, and no kernel has it
            return size + 2 * FLOAT32 * self.D
        return size + (self._plain_rms(self.D) if self.config.parts.norm == "rmsnorm" else 0)

    def _plain_rms(self, width: int) -> int:
        """PyTorch's RMSNorm on a CPU is made of parts: the input in float32, the normed one."""
        if self.fused or self.step.device == "cuda":
            return 0
        normed = FLOAT32 * width
        return normed if self.step.dtype == torch.float32 else 2 * normed - self.bytes * width

    def _attention(self) -> int:
        c, step = self.config, self.step
        q, kv = c.n_heads * c.d_head, c.n_kv_heads * c.d_head
        size = self.bytes * (2 * q + 2 * kv)  # q, k, v and the output
        if self.fused and c.parts.position == "rope":
            size += self.bytes * (q + kv)  # q and k before they are rotated
        elif c.parts.qk_norm:
            size += self.bytes * (q + kv) + self._plain_rms(q + kv)
        if step.kernels:
            return size + FLOAT32 * c.n_heads
        short = step.dtype != torch.float32 and step.seq_len <= MATMUL_MAX_KEYS
        if step.device == "cpu" and (short or c.dropout):  # the weights themselves, (T, T)
            n_kept = 3 if c.dropout else 1  # before and after dropout, and its mask
            number = self.bytes if short else FLOAT32
            return size + n_kept * number * c.n_heads * step.seq_len
        return size + FLOAT32 * c.n_heads

    def _ffn(self) -> int:
        n_swiglu = 3 if self.fused else 4  # PyTorch keeps silu(gate) too
        n_kept = 2 if self.config.parts.ffn == "gelu" else n_swiglu
        one = n_kept * self.bytes * self.config.d_ff
        if not self.config.n_experts:
            return one
        moved = 3 * self.bytes * self.D  # in, out, and weighted
        return self.config.n_active * (one + moved) + 2 * FLOAT32 * self.config.n_experts

    def _dropout(self) -> int:
        """The mask of one layer of dropout: our kernels draw it again."""
        if not self.config.dropout or self.fused:
            return 0
        return self.D * (1 if self.step.device == "cuda" else self.bytes)

    def _loss(self) -> int:
        """Head and cross-entropy: `training/cross_entropy.py`."""
        V, D, N = self.V, self.D, self.n_tokens
        if V < PLAIN_BELOW and not self.step.kernels:
            return N * V * (2 * FLOAT32 + self.bytes)
        padded = -(-V // ALIGN) * ALIGN
        matrix, hidden = self.bytes * padded * D, self.bytes * N * D
        rows = max(1, min(N, CHUNK_NUMBERS // V))
        forward = 2 * matrix + hidden + self.bytes * rows * padded + self._softmax(rows)
        converted = 0 if self.step.dtype == torch.float32 else FLOAT32 * V * D
        backward = matrix + converted + FLOAT32 * V * D + 2 * hidden
        return max(forward, backward)

    def _softmax(self, rows: int) -> int:
        """PyTorch's on so many rows of logits; our kernel works in place."""
        if self.step.kernels:
            return 0
        at_a_time = min(rows, CACHE_NUMBERS // self.V) if self.step.device == "cpu" else rows
        n_alive = (1 if at_a_time == rows else 2) + (self.step.dtype != torch.float32)
        return n_alive * FLOAT32 * at_a_time * self.V

    def _update(self) -> int:
        """Muon works on all matrices of one shape at a time; AdamW in place."""
        if self.step.optimizer == "adamw":
            return 0
        sizes: dict[torch.Size, int] = {}
        for weight in self.matrices:
            sizes[weight.shape] = sizes.get(weight.shape, 0) + weight.numel()
        return 18 * max(sizes.values())
