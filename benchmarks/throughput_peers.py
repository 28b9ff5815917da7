"""Other people's side of the throughput benchmark: their model and loss, in a plain loop.

The loop feeds random tokens and takes fused AdamW for everybody, which flatters the peers: litgpt
and nanoGPT ship a slower optimizer for CPUs, and both read data and write logs besides.
"""

import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from shapes import Shape
from throughput_common import random_batches, report

Step = Callable[[Tensor, Tensor], None]
ADAMW: dict[str, Any] = {"lr": 6e-4, "betas": (0.9, 0.95), "weight_decay": 0.1, "fused": True}
GRAD_CLIP = 1.0


def train(
    project: str,
    shape: dict[str, Any],
    precision: str,
    compiled: bool,
    device: str,
    n_warmup: int,
    nanogpt: str,
) -> dict[str, Any]:
    """Time whole steps: forward, loss, backward, clipping, optimizer.

    project    "litgpt", "transformers" or "nanogpt"
    precision  "fp32", or "bf16": by autocast, weights stay in float32
    nanogpt    the folder of a checkout; unused for the others
    """
    size, where = Shape(**shape), torch.device(device)
    torch.manual_seed(0)
    if project == "litgpt":
        step = litgpt_step(size, where, precision, compiled)
    elif project == "transformers":
        step = plain_step(transformers_loss(size), where, precision, compiled)
    else:
        step = plain_step(nanogpt_loss(size, Path(nanogpt)), where, precision, compiled)
    batches = random_batches(size, where)
    step_ms = []
    for n in range(n_warmup + size.n_steps):
        tokens, targets = batches[n % len(batches)]
        start = time.perf_counter()
        step(tokens.to(where), targets.to(where))
        if where.type == "cuda":
            torch.cuda.synchronize(where)
        step_ms.append((time.perf_counter() - start) * 1e3)
    library = {"library": f"{project} {_version(project)}"}
    return report(step_ms, n_warmup, batches[0][0].numel(), device) | library


def _version(project: str) -> str:
    try:
        return version(project)
    except PackageNotFoundError:
        return "checkout"


class WithLoss(nn.Module):
    """A model that returns only its loss, by its own way to compute it."""

    def __init__(
        self, model: nn.Module, loss: Callable[[nn.Module, Tensor, Tensor], Tensor]
    ) -> None:
        super().__init__()
        self.model, self._loss = model, loss

    def forward(self, tokens: Tensor, targets: Tensor) -> Tensor:
        """(B, T), (B, T) -> mean nats."""
        return self._loss(self.model, tokens, targets)


def plain_step(model: WithLoss, device: torch.device, precision: str, compiled: bool) -> Step:
    """One step in plain PyTorch."""
    model.to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), **ADAMW)
    loss_of = torch.compile(model) if compiled else model
    weights = list(model.parameters())

    def autocast() -> AbstractContextManager[Any]:
        return torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else nullcontext()

    def step(tokens: Tensor, targets: Tensor) -> None:
        with autocast():
            loss = loss_of(tokens, targets)
        loss.backward()
        nn.utils.clip_grad_norm_(weights, GRAD_CLIP)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def transformers_loss(shape: Shape) -> WithLoss:
    """GPT2LMHeadModel or LlamaForCausalLM, whose loss shifts the targets itself."""
    import transformers  # only the peers' interpreter has it

    config: Any
    if shape.family == "gpt2":
        config = transformers.GPT2Config(
            vocab_size=shape.vocab_size,
            n_layer=shape.n_layers,
            n_embd=shape.d_model,
            n_head=shape.n_heads,
            n_positions=shape.seq_len,
            resid_pdrop=shape.dropout,
            embd_pdrop=shape.dropout,
            attn_pdrop=shape.dropout,
            use_cache=False,
        )
    else:
        config = transformers.LlamaConfig(
            vocab_size=shape.vocab_size,
            num_hidden_layers=shape.n_layers,
            hidden_size=shape.d_model,
            num_attention_heads=shape.n_heads,
            num_key_value_heads=shape.n_kv_heads,
            intermediate_size=shape.d_ff,
            max_position_embeddings=shape.seq_len,
            tie_word_embeddings=True,
            use_cache=False,
        )
    model = transformers.AutoModelForCausalLM.from_config(config)
    return WithLoss(model, lambda model, tokens, _: model(input_ids=tokens, labels=tokens).loss)


def nanogpt_loss(shape: Shape, checkout: Path) -> WithLoss:
    """nanoGPT's GPT without biases, as its configs have it; its train.py allows TF32 on GPUs."""
    sys.path.insert(0, str(checkout))
    from model import GPT, GPTConfig

    torch.backends.cuda.matmul.allow_tf32 = True
    model = GPT(
        GPTConfig(
            n_layer=shape.n_layers,
            n_head=shape.n_heads,
            n_embd=shape.d_model,
            block_size=shape.seq_len,
            vocab_size=shape.padded_vocab_size,
            dropout=shape.dropout,
            bias=False,
        )
    )
    return WithLoss(model, lambda model, tokens, targets: model(tokens, targets)[1])


def litgpt_step(shape: Shape, device: torch.device, precision: str, compiled: bool) -> Step:
    """One step as litgpt's pretrain.py takes it: Fabric, its GPT, its chunked cross-entropy.

    It has no learned positions and no tied head: GPT-2's shapes are GPT-NeoX blocks with RoPE.
    """
    import lightning
    from litgpt.model import GPT
    from litgpt.utils import chunked_cross_entropy

    mode = "bf16-mixed" if precision == "bf16" else "32-true"
    fabric = lightning.Fabric(accelerator=device.type, devices=1, precision=mode)
    with fabric.init_module():
        model = GPT(_litgpt_config(shape))
    model = fabric.setup(torch.compile(model) if compiled else model)
    optimizer = fabric.setup_optimizers(torch.optim.AdamW(model.parameters(), **ADAMW))

    def step(tokens: Tensor, targets: Tensor) -> None:
        loss = chunked_cross_entropy(model(tokens), targets)
        fabric.backward(loss)
        fabric.clip_gradients(model, optimizer, max_norm=GRAD_CLIP)
        optimizer.step()
        optimizer.zero_grad()

    return step


def _litgpt_config(shape: Shape) -> Any:
    from litgpt.config import Config

    llama = shape.family == "llama"
    return Config(
        n_layer=shape.n_layers,
        n_embd=shape.d_model,
        n_head=shape.n_heads,
        n_query_groups=shape.n_kv_heads,
        intermediate_size=shape.d_ff,
        block_size=shape.seq_len,
        vocab_size=shape.vocab_size,
        padded_vocab_size=shape.padded_vocab_size,
        norm_class_name="RMSNorm" if llama else "LayerNorm",
        mlp_class_name="LLaMAMLP" if llama else "GptNeoxMLP",
        gelu_approximate="tanh",
        bias=not llama,
        parallel_residual=False,
        rotary_percentage=1.0,
    )
