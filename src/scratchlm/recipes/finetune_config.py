"""The settings of fine-tuning: what all methods share, and what each adds."""

import math
import tomllib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

from scratchlm.base.config import read_toml, refuse_not_finite
from scratchlm.base.errors import ConfigError
from scratchlm.examples.encode import OnLong
from scratchlm.model.classifier import Pooling
from scratchlm.model.lora import LoraConfig
from scratchlm.training.optimizers import OptimConfig, ScheduleConfig
from scratchlm.training.parallel import ParallelConfig
from scratchlm.training.preference import PreferenceConfig
from scratchlm.training.trainer import TrainConfig

# LoRA's best rate is about ten times that of full fine-tuning
# (thinkingmachines.ai/blog/lora, 2025).
LORA_FACTOR = 10.0

# Below this width all weights take a higher rate, with the square of the width, up to so many
# times. A model of 192 on Raschka's 1,100 instructions: held-out loss 4.96 at 5e-5, where no answer
# ends, 3.32 at 5e-4, 3.10 at 1e-3, 2.94 at 3e-3.
SMALL_WIDTH = 1000.0
MOST_TIMES = 40.0


def _train(micro_batch: int = 8) -> TrainConfig:
    return TrainConfig(micro_batch=micro_batch, eval_every=50, save_every=0)


@dataclass(frozen=True)
class FinetuneConfig:
    """What every method has. A resumed run must have the same, but for what is in FREE."""

    METHOD: ClassVar[str] = ""  # its name
    LR: ClassVar[float] = 5e-5  # of full fine-tuning of a model of width 1,000, where `lr` is 0

    model: Path  # the model or run that is fine-tuned; may stand first, without --model
    data: tuple[Path, ...]  # files or folders of examples: json, jsonl, csv, tsv, parquet
    validation: float = 0.1  # share of the examples that are held out
    skip_bad: bool = False  # count bad records and go on, instead of stopping at the first
    seq_len: int = 0  # longest example in tokens; 0 takes the model's context, at most 1024
    long: OnLong = "drop"  # longer examples: leave out, cut off, or stop there
    packed: bool = True  # several short examples in a row, each seeing only itself
    epochs: float = 3.0  # how often each example is read; 0 takes train.steps
    lr: float = 0.0  # peak learning rate; 0 takes the usual of this method, width, and LoRA
    weight_decay: float = 0.0  # decoupled decay of the matrices
    warmup: float = 0.05  # share of the steps in which the rate rises
    floor: float = 0.0  # share of the peak rate that is left at the end
    grad_clip: float = 1.0  # longest gradient; longer ones are shortened to it; 0 = off
    dropout: float = 0.0  # share of activations zeroed in training
    lora: bool = False  # train adapters beside frozen weights, instead of the weights
    rank: int = 16  # of the adapters: how much of a matrix they can change
    alpha: float = 32.0  # what an adapter adds is multiplied by alpha / rank
    lora_dropout: float = 0.0  # share of what enters an adapter that is zeroed in training
    lora_layers: tuple[str, ...] = ("all",)  # all, attention, ffn, or q, k, v, out, gate, up, down
    rslora: bool = False  # multiply by alpha / sqrt(rank) instead (arXiv:2312.03732)
    quantise: Literal["none", "nf4"] = "none"  # with lora: the frozen weights in 4 bits (QLoRA)
    train: TrainConfig = field(default_factory=_train)
    parallel: ParallelConfig = field(default_factory=ParallelConfig)

    def __post_init__(self) -> None:
        data = (self.data,) if isinstance(self.data, str | Path) else self.data
        object.__setattr__(self, "model", Path(self.model))
        object.__setattr__(self, "data", tuple(map(Path, data)))
        refuse_not_finite(self)
        assert self.adapter  # its own checks
        for name in ("validation", "warmup", "floor", "dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"{name} = {getattr(self, name)} must be in [0, 1).")
        for name in ("epochs", "lr", "weight_decay", "grad_clip", "seq_len"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} = {getattr(self, name)} must not be negative.")
        if self.quantise != "none" and not self.lora:
            raise ConfigError(
                f'quantise = "{self.quantise}" freezes the weights, so that only adapters can '
                "learn: set lora too."
            )
        if self.train.budget or self.train.until:
            raise ConfigError(
                "fine-tuning reads the examples `epochs` times: train.budget and train.until are "
                "for pretraining. Lower epochs, or set epochs = 0 and train.steps."
            )
        if self.train.sample_every:
            raise ConfigError("train.sample_every is for pretraining; --show prints answers.")
        if self.lora and (self.parallel.zero or self.parallel.shard != 1):
            raise ConfigError(
                "adapters are trained with whole copies of the model: parallel.shard = 1 and "
                "parallel.zero = 0."
            )

    @property
    def adapter(self) -> LoraConfig:
        """What `lora` trains."""
        return LoraConfig(
            self.rank, self.alpha, self.lora_dropout, self.lora_layers, rslora=self.rslora
        )

    def with_lr(self, d_model: int) -> "FinetuneConfig":
        """The same with the learning rate that `lr` = 0 means for a model of this width."""
        wider = min(MOST_TIMES, max(1.0, (SMALL_WIDTH / d_model) ** 2))
        usual = self.LR * (LORA_FACTOR if self.lora else wider)
        return self if self.lr else replace(self, lr=float(f"{usual:.2g}"))

    @property
    def optim(self) -> OptimConfig:
        """AdamW as fine-tuning usually has it; `lr` must be set."""
        return OptimConfig(
            lr=self.lr,
            weight_decay=self.weight_decay,
            beta2=0.999,
            grad_clip=self.grad_clip,
        )

    @property
    def schedule(self) -> ScheduleConfig:
        """Up over the warm-up, then down along a cosine."""
        return ScheduleConfig("cosine", math.ceil(self.warmup * self.train.steps), self.floor)

    def with_steps(self, n_examples: int) -> "FinetuneConfig":
        """The same with the number of steps that `epochs` means."""
        if not self.epochs:
            return self
        batch = self.train.micro_batch * self.train.accumulate
        steps = max(1, math.ceil(self.epochs * n_examples / batch))
        return replace(self, train=replace(self.train, steps=steps))


FREE = {
    "train.eval_every", "train.eval_batches", "train.save_every", "train.keep_last",
    "train.patience", "train.track", "train.recompute", "parallel.data", "parallel.shard",
    "parallel.zero",
}  # fmt: skip


@dataclass(frozen=True)
class SftConfig(FinetuneConfig):
    """Learning to answer from conversations."""

    METHOD: ClassVar[str] = "sft"  # its name

    method: Literal["sft"] = "sft"  # as config.toml names it
    template: str = "auto"  # chatml, alpaca, a Jinja file; auto: the model's own, else chatml
    system: str = ""  # a system message for conversations without one
    label_smoothing: float = 0.0  # share of each target that all words get alike
    neftune: float = 0.0  # noise on the embeddings in training (arXiv:2310.05914); 5 is usual

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.label_smoothing < 1:
            raise ConfigError(f"label_smoothing = {self.label_smoothing} must be in [0, 1).")
        if self.neftune < 0:
            raise ConfigError(f"neftune = {self.neftune} must not be negative.")


@dataclass(frozen=True)
class ClassifyConfig(FinetuneConfig):
    """Learning to tell classes of texts apart."""

    METHOD: ClassVar[str] = "classify"  # its name

    method: Literal["classify"] = "classify"  # as config.toml names it
    test: float = 0.1  # share of the texts that are looked at once, at the end
    long: OnLong = "cut"  # longer texts: leave out, cut off, or stop there
    text_column: str = ""  # the key or column of the text; "" finds it
    label_column: str = ""  # that of the label; "" finds it
    balanced: bool = False  # as many training texts of each class as of the rarest
    class_weights: bool = False  # rare classes count more, so that all weigh the same
    pooling: Pooling = "last"  # read the state at the last token, or the mean of all
    layers: int = 0  # train the last so many blocks and the head only; 0 trains all
    label_smoothing: float = 0.0  # share of each target that all classes get alike
    train: TrainConfig = field(default_factory=lambda: _train(16))  # steps, precision, checkpoints

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.test < 1 or self.test + self.validation >= 1:
            raise ConfigError(
                f"validation = {self.validation} and test = {self.test} leave nothing to learn "
                "from: their sum must be below 1."
            )
        if self.layers < 0:
            raise ConfigError(f"layers = {self.layers} must not be negative.")
        if self.layers and self.lora:
            raise ConfigError("layers and lora exclude each other: both say what is trained.")
        if not 0 <= self.label_smoothing < 1:
            raise ConfigError(f"label_smoothing = {self.label_smoothing} must be in [0, 1).")


@dataclass(frozen=True)
class DpoConfig(FinetuneConfig):
    """Learning from pairs of a better and a worse answer."""

    METHOD: ClassVar[str] = "dpo"  # its name
    LR: ClassVar[float] = 5e-6  # of full fine-tuning of a model of width 1,000, where `lr` is 0

    method: Literal["dpo"] = "dpo"  # as config.toml names it
    epochs: float = 1.0  # how often each pair is read; 0 takes train.steps
    template: str = "auto"  # chatml, alpaca, a Jinja file; auto: the model's own
    preference: PreferenceConfig = field(default_factory=PreferenceConfig)
    train: TrainConfig = field(default_factory=lambda: _train(4))  # steps, precision, checkpoints

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.long == "cut":
            raise ConfigError('long = "cut" would cut one answer of a pair: use drop or refuse.')


@dataclass(frozen=True)
class DistillConfig(FinetuneConfig):
    """Learning from a larger model's probabilities."""

    METHOD: ClassVar[str] = "distill"  # its name

    method: Literal["distill"] = "distill"  # as config.toml names it
    teacher: Path | None = None  # the model or run to learn from; it has the same tokenizer
    temperature: float = 2.0  # how much the teacher's probabilities are evened out
    share: float = 0.5  # of the loss: the teacher's; the rest is the next token's
    template: str = ""  # data are conversations: auto, chatml, alpaca, a Jinja file; "": texts
    system: str = ""  # a system message for conversations without one

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.teacher is None:
            raise ConfigError("there is nobody to learn from: give --teacher MODEL.")
        object.__setattr__(self, "teacher", Path(self.teacher))
        if self.temperature <= 0:
            raise ConfigError(f"temperature = {self.temperature} must be above 0.")
        if not 0 < self.share <= 1:
            raise ConfigError(f"share = {self.share} must be in (0, 1].")


METHODS: dict[str, type[FinetuneConfig]] = {
    kind.METHOD: kind for kind in (SftConfig, ClassifyConfig, DpoConfig, DistillConfig)
}


def read_finetune_config(path: Path) -> FinetuneConfig | None:
    """The settings of a fine-tuning run from its config.toml; None for a pretraining run's.

    raises   ConfigError for a file that is missing or wrong
    """
    try:
        with path.open("rb") as file:
            method: Any = tomllib.load(file).get("method")
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError):
        return None  # `read_toml` says what is wrong with it
    return read_toml(METHODS[method], path) if method in METHODS else None
