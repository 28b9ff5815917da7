"""`quickstart`: the whole path on a bundled text, in about three minutes on two CPU cores."""

from pathlib import Path
from typing import Literal

from scratchlm.base.duration import duration
from scratchlm.base.log import say
from scratchlm.checkpoint.folder import load_model
from scratchlm.data.loader import DataConfig
from scratchlm.model.config import ModelConfig
from scratchlm.recipes.prepare import PrepareConfig
from scratchlm.recipes.pretrain import Resume, pretrain
from scratchlm.recipes.run_config import RunConfig, TextConfig
from scratchlm.recipes.samples import sample_text
from scratchlm.recipes.training_run import RunResult
from scratchlm.tokenizer.config import TokenizerConfig
from scratchlm.tokenizer.tokenizer import Tokenizer
from scratchlm.training.optimizers import OptimConfig, ScheduleConfig
from scratchlm.training.trainer import TrainConfig

Corpus = Literal["shakespeare", "tang"]
PROMPTS = {"shakespeare": ("ROMEO:\n", "To be"), "tang": ("春曉\n", "明月")}


def quickstart_config(corpus: Corpus = "shakespeare") -> RunConfig:
    """Our fastest recipe for a small text by characters; `configs/fast.toml` holds the same.

    Four rows of 256 in a step: more rows or a larger model make too few steps in this time, fewer
    make them too rough; docs/LOG.md has the tries.
    """
    return RunConfig(
        text=TextConfig((f"bundled:{corpus}",)),
        tokenizer=TokenizerConfig(kind="char"),
        prepare=PrepareConfig(split="tail", val_fraction=0.1),
        data=DataConfig(seq_len=256),
        model=ModelConfig(
            family="qwen3",
            n_layers=4,
            d_model=192,
            n_heads=3,
            max_seq_len=256,
            tie_embeddings=False,
            init="zero",
        ),
        optim=OptimConfig(
            optimizer="muon",
            lr=0.02,
            embedding_lr=0.06,
            head_lr=0.02,
            scalar_lr=0.02,
            beta1=0.8,
            momentum_warmup=300,
            weight_decay=0.0,
        ),
        schedule=ScheduleConfig(kind="wsd", warmup=20, floor=0.0, cooldown=0.5),
        train=TrainConfig(
            steps=1700,
            micro_batch=4,
            eval_every=425,
            save_every=425,
        ),
    )


def quickstart(
    out: Path | str = "runs/quickstart",
    *,
    corpus: Corpus = "shakespeare",
    steps: int = 0,
    resume: Resume = "auto",
    device: str | None = None,
) -> RunResult:
    """Train on a text that ships with the program; print two samples, the loss and what to try.

    corpus   "shakespeare", or "tang": classical Chinese poems
    steps    0 takes the recipe's
    """
    out = Path(out)
    config = quickstart_config(corpus)
    if steps:
        config = config.replace("train", steps=steps)
    result = pretrain(config, out, resume=resume, device=device)
    if result.interrupted:
        return result
    model, tokenizer = load_model(result.model), Tokenizer.load(result.model)
    for i, prompt in enumerate(PROMPTS[corpus]):
        text = sample_text(model, tokenizer, prompt, 200, seed=i)
        print(f"--- sample {i + 1} ---\n{text}\n")
    _report(result, corpus)
    return result


def _report(result: RunResult, corpus: Corpus) -> None:
    if result.loss_nats is not None and result.bits_per_byte is not None:
        print(
            f"held-out loss: {result.loss_nats:.4f} nats per token, "
            f"{result.bits_per_byte:.4f} bits per byte"
        )
    say(f"{result.reason}: {result.step} steps, {duration(result.seconds)} of training")
    print(f"model folder:  {result.model}\n\nNow try:")
    prompt = PROMPTS[corpus][0].strip()
    print(f'  scratchlm generate {result.model} --prompt "{prompt}"')
    print(f"  scratchlm chat {result.model}")
    print("  scratchlm build FOLDER_OF_YOUR_TEXT --out runs/mine")
