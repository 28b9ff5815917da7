"""The path of one token, from a text file to a written sentence, stage by stage.

    python examples/whole_path.py

Runs in about a minute on two CPU cores. The numbers are the stages of docs/ARCHITECTURE.md; each
stage knows the small thing that it is handed (the baton), not its neighbour. Stages 1 and 3 (pages
from the web, filters) and 12 (a server) are not built yet.
"""

import tempfile
from pathlib import Path

import torch

from scratchlm.checkpoint.folder import load_model, save_model
from scratchlm.corpus.bundled import resolve
from scratchlm.corpus.read import find_files, read_documents
from scratchlm.data.loader import DataConfig, Loader, SourceConfig, open_splits
from scratchlm.evaluation.loss import held_out_loss
from scratchlm.generation.engine import Engine
from scratchlm.generation.sampling import Sampling
from scratchlm.generation.sequence import Request
from scratchlm.model.config import ModelConfig
from scratchlm.model.transformer import Transformer
from scratchlm.recipes.prepare import PrepareConfig, prepare
from scratchlm.tokenizer.config import TokenizerConfig
from scratchlm.tokenizer.tokenizer import Tokenizer
from scratchlm.tokenizer.train import train_tokenizer
from scratchlm.training.objectives import count_targets, next_token_total
from scratchlm.training.optimizers import OptimConfig, ScheduleConfig
from scratchlm.training.trainer import TrainConfig, Trainer

T = 64


def main(folder: Path) -> None:
    """Walk the path once; everything that is made lands in `folder`."""
    # 2. Files become documents: an id, a text, where it came from.
    files = find_files([resolve("bundled:shakespeare")])
    document = next(iter(read_documents(files)))
    print("2 document ", repr(document.text[:40]), "...")

    # 4. A tokenizer is learned from the text; text becomes ids.
    texts = (document.text for document in read_documents(files))
    tokenizer = train_tokenizer(texts, TokenizerConfig(kind="bpe", vocab_size=1024))
    ids = tokenizer.encode("To be, or not to be")
    print("4 ids      ", ids, "=", [tokenizer.decode([i]) for i in ids])

    # 5. All documents become shards: long arrays of ids on disk, split for validation.
    prepare(
        [resolve("bundled:shakespeare")],
        folder / "data",
        tokenizer,
        config=PrepareConfig(split="tail"),
    )
    data = DataConfig(sources=(SourceConfig(folder / "data"),), seq_len=T)

    # 6. Shards become batches of rows: tokens (B, T), and the targets one ahead.
    train = Loader(open_splits(data, "train"), data, batch_size=16)
    batch = train.batch(0)
    print("6 batch    ", tuple(batch.tokens.shape), repr(tokenizer.decode(batch.tokens[0, :9])))

    # 7. The model turns tokens (B, T) into logits (B, T, V).
    torch.manual_seed(0)
    shape = ModelConfig(
        vocab_size=tokenizer.vocab_size, n_layers=3, d_model=96, n_heads=3, max_seq_len=T
    )
    model = Transformer(shape)
    model.initialise()
    print("7 logits   ", tuple(model(batch.tokens).shape), f"{model.n_parameters():,} parameters")

    # 8. The objective: how surprised the model is by the true next tokens, in nats.
    total = next_token_total(model, batch.tokens, batch.targets, None)
    print(
        f"8 loss      {total.item() / count_targets(batch.targets):.3f} nats; ln V would be 6.931"
    )

    # 9. The trainer changes the weights, step by step.
    config = TrainConfig(steps=120, micro_batch=16)
    optim = OptimConfig(optimizer="muon", lr=0.02)
    trainer = Trainer(model, train.batches, config, optim, ScheduleConfig(warmup=10), seq_len=T)
    trainer.run()
    validation = Loader(open_splits(data, "val"), data, batch_size=16, train=False)
    result = held_out_loss(model, validation.batches(), tokenizer.byte_lengths())
    print(f"9 held out  {result.loss_nats:.3f} nats, {result.bits_per_byte:.3f} bits per byte")

    # 10. Saved as an ordinary Hugging Face folder, and loaded again.
    save_model(folder / "model", model, tokenizer)
    print("10 saved   ", *sorted(path.name for path in (folder / "model").iterdir()))

    # 11. The engine continues a prompt, token by token.
    engine = Engine(load_model(folder / "model"), Tokenizer.load(folder / "model"))
    request = Request(tokenizer.encode("ROMEO:\n"), Sampling(max_new_tokens=40, seed=1))
    print("11 text     ROMEO:", "".join(token.text for token in engine.stream(request)), sep="\n")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        main(Path(scratch))
