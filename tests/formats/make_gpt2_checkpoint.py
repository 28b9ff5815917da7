"""Make data/gpt2_tf: a tiny GPT-2 as OpenAI published theirs, written by TensorFlow itself.

Kept to show where the files come from; the tests read the files and never run this. It needs
`pip install tensorflow-cpu`, which scratchlm does not:

    python make_gpt2_checkpoint.py VOCAB_BPE data/gpt2_tf

VOCAB_BPE is OpenAI's vocab.bpe (github.com/openai/gpt-2, Modified MIT License), of which the first
40 merges are taken. The model is that of src/model.py in the same repository: its variables' names
and shapes, its formula. Written with tensorflow-cpu 2.21.0.

    model.ckpt.*, checkpoint                  weights far from their start, by tf.train.Saver
    hparams.json, encoder.json, vocab.bpe     as OpenAI has them
    expected.json                             ids, and the SHA-256 of each variable's float32 bytes
    logits.npy                                (ids, n_vocab) float32: what TensorFlow makes of them
"""

import hashlib
import json
import math
import sys
from pathlib import Path

import numpy as np
import tensorflow.compat.v1 as tf

N_MERGES = 40
SIZES = {"n_vocab": 256 + N_MERGES + 1, "n_ctx": 32, "n_embd": 16, "n_head": 2, "n_layer": 2}
IDS = [296, 257, 40, 0, 255, 256, 130, 7, 295, 64, 64, 188]
_RANDOM = np.random.default_rng(0)


def variable(name: str, shape: list[int], mean: float = 0.0, spread: float = 0.2) -> tf.Tensor:
    """A variable of that name, filled with normal numbers."""
    numbers = _RANDOM.normal(mean, spread, shape).astype(np.float32)
    return tf.get_variable(name, shape, initializer=tf.constant_initializer(numbers))


def gelu(x: tf.Tensor) -> tf.Tensor:
    return 0.5 * x * (1 + tf.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * tf.pow(x, 3))))


def norm(x: tf.Tensor, scope: str) -> tf.Tensor:
    with tf.variable_scope(scope):
        g, b = variable("g", [x.shape[-1]], 1.0), variable("b", [x.shape[-1]])
        u = tf.reduce_mean(x, axis=-1, keepdims=True)
        s = tf.reduce_mean(tf.square(x - u), axis=-1, keepdims=True)
        return (x - u) * tf.rsqrt(s + 1e-5) * g + b


def conv1d(x: tf.Tensor, scope: str, n_out: int) -> tf.Tensor:
    with tf.variable_scope(scope):
        n_in = x.shape[-1]
        w, b = variable("w", [1, n_in, n_out]), variable("b", [n_out])
        return tf.matmul(x, tf.reshape(w, [n_in, n_out])) + b


def attention(x: tf.Tensor, scope: str) -> tf.Tensor:
    """(T, n_embd) -> (T, n_embd)."""
    T, width = x.shape
    with tf.variable_scope(scope):
        heads = tf.reshape(conv1d(x, "c_attn", 3 * width), [T, 3, SIZES["n_head"], -1])
        q, k, v = tf.unstack(tf.transpose(heads, [1, 2, 0, 3]))  # (n_head, T, d_head)
        w = tf.matmul(q, k, transpose_b=True) * tf.rsqrt(float(v.shape[-1]))
        seen = tf.cast(tf.range(T)[:, None] >= tf.range(T), tf.float32)
        w = tf.nn.softmax(w * seen - 1e10 * (1 - seen))
        a = tf.reshape(tf.transpose(tf.matmul(w, v), [1, 0, 2]), [T, width])
        return conv1d(a, "c_proj", width)


def mlp(x: tf.Tensor, scope: str) -> tf.Tensor:
    with tf.variable_scope(scope):
        h = gelu(conv1d(x, "c_fc", 4 * x.shape[-1]))
        return conv1d(h, "c_proj", x.shape[-1])


def model(ids: list[int]) -> tf.Tensor:
    """Logits (T, n_vocab)."""
    with tf.variable_scope("model"):
        wpe = variable("wpe", [SIZES["n_ctx"], SIZES["n_embd"]])
        wte = variable("wte", [SIZES["n_vocab"], SIZES["n_embd"]], spread=0.4)
        x = tf.gather(wte, ids) + wpe[: len(ids)]
        for layer in range(SIZES["n_layer"]):
            with tf.variable_scope(f"h{layer}"):
                x = x + attention(norm(x, "ln_1"), "attn")
                x = x + mlp(norm(x, "ln_2"), "mlp")
        return tf.matmul(norm(x, "ln_f"), wte, transpose_b=True)


def write_weights(folder: Path) -> None:
    """Write the checkpoint, and what TensorFlow makes of it once it has read it back."""
    tf.disable_eager_execution()
    logits = model(IDS)
    saver = tf.train.Saver(save_relative_paths=True)
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        saver.save(session, str(folder / "model.ckpt"), write_meta_graph=False)
    with tf.Session() as session:
        saver.restore(session, str(folder / "model.ckpt"))
        np.save(folder / "logits.npy", session.run(logits))
        values = {v.op.name: session.run(v) for v in tf.global_variables()}
    sums = {name: hashlib.sha256(value.tobytes()).hexdigest() for name, value in values.items()}
    write_json(folder / "expected.json", {"ids": IDS, "sha256": sums})


def write_tokenizer(folder: Path, vocab_bpe: Path) -> None:
    """Write encoder.json and vocab.bpe, cut short."""
    lines = vocab_bpe.read_text(encoding="utf-8").split("\n")[: 1 + N_MERGES]
    (folder / "vocab.bpe").write_text("\n".join(lines) + "\n", encoding="utf-8")
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    letters = [chr(byte) for byte in printable] + [chr(0x100 + i) for i in range(68)]
    merged = [line.replace(" ", "") for line in lines[1:]]
    tokens = [*letters, *merged, "<|endoftext|>"]
    write_json(folder / "encoder.json", {token: i for i, token in enumerate(tokens)})


def write_json(path: Path, values: dict) -> None:
    path.write_text(json.dumps(values) + "\n", encoding="utf-8")


if __name__ == "__main__":
    source, target = map(Path, sys.argv[1:])
    target.mkdir(parents=True, exist_ok=True)
    write_json(target / "hparams.json", SIZES)
    write_tokenizer(target, source)
    write_weights(target)
