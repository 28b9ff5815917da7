"""What fine-tuning minimises, beside the plain next token: answers, classes, distillation."""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from scratchlm.base.errors import ConfigError
from scratchlm.data.rows import IGNORE
from scratchlm.model.classifier import Classifier
from scratchlm.model.transformer import Transformer
from scratchlm.training.cross_entropy import CHUNK_NUMBERS, linear_cross_entropy
from scratchlm.training.objectives import Goal, TokenBatch, count_targets


def answers(label_smoothing: float = 0.0) -> Goal:
    """Nats of the targets, of which a conversation has few: only their logits are made.

    label_smoothing   share of the target that all words get alike (arXiv:1512.00567)
    """

    def total(
        model: Transformer, tokens: Tensor, targets: Tensor, segments: Tensor | None
    ) -> Tensor:
        hidden, wanted = _learned(model.hidden(tokens, segments=segments), targets)
        if not (label_smoothing and model.training):
            nats = linear_cross_entropy(hidden, model.head.weight, wanted)
        else:
            nats = _in_chunks(
                lambda h, t: F.cross_entropy(
                    model.head(h).float(), t, reduction="sum", label_smoothing=label_smoothing
                ),
                hidden,
                wanted,
                model.config.vocab_size,
            )
        balance = model.balance_loss() if model.training else None
        return nats if balance is None else nats + balance * len(wanted)

    return Goal(total, _n_targets)


def classes(n: int, weights: Tensor | None = None, label_smoothing: float = 0.0) -> Goal:
    """Nats of the classes of texts; a target is the number of a class where a text ends.

    n         how many classes there are
    weights   (n,): how much a text of each counts; None: all the same
    """

    def total(
        model: Transformer, tokens: Tensor, targets: Tensor, segments: Tensor | None
    ) -> Tensor:
        assert isinstance(model, Classifier)
        at = targets != IGNORE
        smoothing = label_smoothing if model.training else 0.0
        return F.cross_entropy(
            model.scores(tokens, at, segments),
            targets[at],
            weight=None if weights is None else weights.to(targets.device),
            reduction="sum",
            label_smoothing=smoothing,
        )

    def count(batch: TokenBatch) -> float:
        if weights is None:
            return count_targets(batch.targets)
        return float(weights[batch.targets[batch.targets != IGNORE]].sum())

    return Goal(total, count, idle=math.log(n))


def distillation(teacher: Transformer, temperature: float, share: float) -> Goal:
    """Part of the loss is how far the words' probabilities are from a teacher's (arXiv:1503.02531).

    share   of temperature^2 KL(teacher, student); the rest is that of the next token
    raises  ConfigError for a teacher with other ids
    """
    teacher.requires_grad_(False).eval()

    def total(
        model: Transformer, tokens: Tensor, targets: Tensor, segments: Tensor | None
    ) -> Tensor:
        if teacher.config.vocab_size != model.config.vocab_size:
            raise ConfigError(
                f"the teacher has {teacher.config.vocab_size} ids, the student "
                f"{model.config.vocab_size}: logits can be compared only with one tokenizer."
            )
        with torch.no_grad():
            theirs, _ = _learned(teacher.hidden(tokens, segments=segments), targets)
        hidden, wanted = _learned(model.hidden(tokens, segments=segments), targets)

        def apart(h: Tensor, t: Tensor, other: Tensor) -> Tensor:
            logits = model.head(h).float()
            p = (teacher.head(other).float() / temperature).log_softmax(dim=-1)
            q = (logits / temperature).log_softmax(dim=-1)
            distance = F.kl_div(q, p, reduction="sum", log_target=True) * temperature**2
            return share * distance + (1 - share) * F.cross_entropy(logits, t, reduction="sum")

        return _in_chunks(apart, hidden, wanted, model.config.vocab_size, theirs)

    return Goal(total, _n_targets)


def _n_targets(batch: TokenBatch) -> float:
    return count_targets(batch.targets)


def _learned(hidden: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """States and targets where there is something to learn: (n, D), (n,)."""
    at = targets != IGNORE
    return hidden[at], targets[at]


def _in_chunks(
    nats: Callable[..., Tensor], hidden: Tensor, targets: Tensor, V: int, *others: Tensor
) -> Tensor:
    """The sum of `nats` over chunks of rows; the logits of one exist at a time, and again later."""
    size = max(1, CHUNK_NUMBERS // V)
    parts = [part.split(size) for part in (hidden, targets, *others)]
    total = torch.zeros((), device=hidden.device)
    for chunk in zip(*parts, strict=True):
        total = total + checkpoint(nats, *chunk, use_reentrant=False)
    return total
