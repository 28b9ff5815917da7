"""The one recipe for small models, as a function of their size: what `build` trains with.

What was tried and lost is in docs/LOG.md. The learning rate is the same for every width: an
orthogonal update, scaled by the root of rows over columns, changes what a matrix puts out by the
same amount at any width (arXiv:2310.17813; Muon in arXiv:2502.16982).
"""

from dataclasses import dataclass

from scratchlm.data.loader import DataConfig
from scratchlm.model.config import ModelConfig
from scratchlm.recipes.prepare import PrepareConfig
from scratchlm.recipes.run_config import RunConfig, TextConfig
from scratchlm.tokenizer.config import TokenizerConfig
from scratchlm.training.optimizers import OptimConfig, ScheduleConfig
from scratchlm.training.trainer import TrainConfig

D_HEAD = 64  # which every server accepts


@dataclass(frozen=True)
class Size:
    """A model's depth and width, its context, and the rows of that length in one step."""

    n_layers: int
    d_model: int
    seq_len: int = 256
    rows: int = 4

    @property
    def step_tokens(self) -> int:
        """Tokens of one step."""
        return self.rows * self.seq_len


def recipe(
    size: Size, tokenizer: TokenizerConfig, *, weight_decay: float = 0.1, dropout: float = 0.0
) -> RunConfig:
    """Qwen3 with Muon and a warmup-stable-decay schedule; text and length are the caller's.

    weight_decay   of the matrices; 0 is better where the text is read once or twice by characters
    """
    tied = tokenizer.kind != "char"  # a table of few rows costs nothing, and is better apart
    return RunConfig(
        text=TextConfig(("-",)),
        tokenizer=tokenizer,
        prepare=PrepareConfig(val_fraction=0.1),
        data=DataConfig(seq_len=size.seq_len),
        model=ModelConfig(
            family="qwen3",
            n_layers=size.n_layers,
            d_model=size.d_model,
            n_heads=size.d_model // D_HEAD,
            max_seq_len=size.seq_len,
            dropout=dropout,
            tie_embeddings=tied,
            init="zero",
        ),
        optim=OptimConfig(
            optimizer="muon",
            lr=0.02,
            embedding_lr=0.006 if tied else 0.06,
            head_lr=0.02,
            scalar_lr=0.006 if tied else 0.02,
            beta1=0.8,
            momentum_warmup=300,
            weight_decay=weight_decay,
        ),
        schedule=ScheduleConfig(kind="wsd", warmup=20, floor=0.0, cooldown=0.5),
        train=TrainConfig(micro_batch=size.rows),
    )
