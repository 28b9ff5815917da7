"""Damaged and hostile files of every format: what comes out is a model or our own error.

Each victim is a small whole model; one of its files is damaged, and all of it is read. `fuzz.py`
does the same for as long as it is told; what it found lies in data/found and is tried again here.
"""

import functools
import io
import itertools
import json
import math
import pickle
import pickletools
import struct
import tempfile
import types
import zipfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save

from scratchlm.base.errors import CheckpointError
from scratchlm.recipes.import_model import open_any
from scratchlm.tokenizer.compose import bpe, byte_level, compose

FOUND = Path(__file__).parent / "data" / "found"
Files = dict[str, bytes]

# V ids, T positions, D wide, F in the feed-forward, two heads that share a key, one layer
V, T, D, F, Dh = 18, 8, 8, 16, 4
TOKENS = ["<unk>", "<s>", "</s>", "<0x00>", *"abcdefghij\u2581", "ab", "abc", "\u2581a"]


def numbers(n: int) -> bytes:
    return struct.pack(f"<{n}f", *(math.sin(i) for i in range(n)))


def tensors(shapes: dict[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
    return {name: torch.full(shape, 0.5) for name, shape in shapes.items()}


def saved(value: Any, *, zipped: bool = True) -> bytes:
    file = io.BytesIO()
    torch.save(value, file, _use_new_zipfile_serialization=zipped)
    return file.getvalue()


def llama2c(version: int) -> Files:
    sizes = (D, F, 1, 2, 1, V, T)
    norms, matrices = 3 * D, [V * D, D * D, D * Dh, D * Dh, D * D, D * F, D * F, D * F]
    if version == 0:
        content = struct.pack("<7i", *sizes) + numbers(norms + sum(matrices) + T * Dh)
    else:
        group = 8 if version == 2 else 0
        header = struct.pack("<Ii7iBi", 0x616B3432, version, *sizes, 1, group).ljust(256, b"\0")
        weights = b"".join(bytes(n) + numbers(n // 8) for n in matrices)
        content = header + numbers(norms) + (weights if group else numbers(sum(matrices)))
    pieces = b"".join(
        struct.pack("<fi", -i, len(text)) + text
        for i, text in enumerate(token.replace("\u2581", " ").encode() for token in TOKENS)
    )
    return {"model.bin": content, "tokenizer.bin": struct.pack("<i", 6) + pieces}


def nanogpt(*, zipped: bool = True, kin: bool = False) -> Files:
    h = "transformer.h.0"
    shapes = {"transformer.wte.weight": (V, D), "transformer.wpe.weight": (T, D)}
    for name, shape in {
        f"{h}.attn.c_attn": (3 * D, D), f"{h}.attn.c_proj": (D, D), f"{h}.ln_1": (D,),
        f"{h}.mlp.c_fc": (4 * D, D), f"{h}.mlp.c_proj": (D, 4 * D), f"{h}.ln_2": (D,),
        "transformer.ln_f": (D,),
    }.items():  # fmt: skip
        shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    sizes = {"n_layer": 1, "n_head": 2, "n_embd": D, "block_size": T, "vocab_size": V, "bias": True}
    state = tensors(shapes)
    state["lm_head.weight"] = state["transformer.wte.weight"]
    checkpoint = {"model": state, "model_args": sizes, "config": {"a": None, "b": (1.5, "c")}}
    itos = dict(enumerate("abcdefghijklmnopqr"))
    meta = {"vocab_size": V, "itos": itos, "stoi": {c: i for i, c in itos.items()}}
    if kin:  # who pickle an object, and write characters as JSON
        checkpoint = {"model_state_dict": state, "config": types.SimpleNamespace(**sizes)}
        return {"ckpt.pt": saved(checkpoint), "tokenizer.json": json.dumps(meta).encode()}
    return {"ckpt.pt": saved(checkpoint, zipped=zipped), "meta.pkl": pickle.dumps(meta)}


LLAMA = {
    "attention_norm": ("input_layernorm", "attn_norm", (D,)),
    "attention.wq": ("self_attn.q_proj", "attn_q", (D, D)),
    "attention.wk": ("self_attn.k_proj", "attn_k", (Dh, D)),
    "attention.wv": ("self_attn.v_proj", "attn_v", (Dh, D)),
    "attention.wo": ("self_attn.o_proj", "attn_output", (D, D)),
    "ffn_norm": ("post_attention_layernorm", "ffn_norm", (D,)),
    "feed_forward.w1": ("mlp.gate_proj", "ffn_gate", (F, D)),
    "feed_forward.w3": ("mlp.up_proj", "ffn_up", (F, D)),
    "feed_forward.w2": ("mlp.down_proj", "ffn_down", (D, F)),
}  # fmt: skip


def llama2c_pt() -> Files:
    state = {"tok_embeddings.weight": (V, D), "norm.weight": (D,), "output.weight": (V, D)}
    state |= {f"layers.0.{name}.weight": shape for name, (_, _, shape) in LLAMA.items()}
    sizes = {"dim": D, "n_layers": 1, "n_heads": 2, "n_kv_heads": 1, "vocab_size": V}
    sizes |= {"multiple_of": 16, "max_seq_len": T, "norm_eps": 1e-5}
    return {"ckpt.pt": saved({"model": tensors(state), "model_args": sizes})}


def folder(weights: str) -> Files:
    """A Hugging Face folder; `weights`: the file that holds them, or its index."""
    state = {"model.embed_tokens.weight": (V, D), "model.norm.weight": (D,)}
    state |= {f"model.layers.0.{name}.weight": shape for name, _, shape in LLAMA.values()}
    values = {
        "model_type": "llama", "vocab_size": V, "hidden_size": D, "num_hidden_layers": 1,
        "num_attention_heads": 2, "num_key_value_heads": 1, "intermediate_size": F,
        "rms_norm_eps": 1e-5, "max_position_embeddings": T, "tie_word_embeddings": True,
        "rope_scaling": {
            "rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": T // 2,
        },
    }  # fmt: skip
    files = {"config.json": json.dumps(values).encode()} | tokenizer()
    write = save if "safetensors" in weights else saved
    if not weights.endswith(".json"):
        return files | {weights: write(tensors(state))}
    parts = {"one.bin": list(state)[:4], "two.bin": list(state)[4:]}
    files |= {part: write(tensors({n: state[n] for n in names})) for part, names in parts.items()}
    index = {"weight_map": {name: part for part, names in parts.items() for name in names}}
    return files | {weights: json.dumps(index).encode()}


def tokenizer() -> Files:
    made = compose(
        "bpe", bpe(TOKENS, [("a", "b"), ("ab", "c")]), {"bos": "<s>", "eos": "</s>"},
        pre_tokenizer=byte_level(use_regex=True), decoder=byte_level(use_regex=False),
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as place:
        made.save(place)
        return {path.name: path.read_bytes() for path in Path(place).iterdir()}


Field = tuple[str, int, Any]  # key, type, value; of an array (type of each, values)
FORMS = {0: "B", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 12: "d"}


def gguf_fields(kind: str) -> list[Field]:
    sizes = {
        "context_length": T, "embedding_length": D, "block_count": 1, "feed_forward_length": F,
        "attention.head_count": 2, "attention.head_count_kv": 1,
    }  # fmt: skip
    tokens = [("tokens", 9, (8, TOKENS)), ("token_type", 9, (5, [2, 3, 3, 6] + [1] * (V - 4)))]
    tokens += [("model", 8, kind), ("bos_token_id", 4, 1), ("eos_token_id", 4, 2)]
    own = {
        "gpt2": [("pre", 8, "gpt-2"), ("merges", 9, (8, ["a b", "ab c"]))],
        "llama": [("scores", 9, (6, [-float(i) for i in range(V)])), ("add_bos_token", 7, True)],
    }
    return [
        ("general.architecture", 8, "llama"),
        *((f"llama.{key}", 4, value) for key, value in sizes.items()),
        ("llama.attention.layer_norm_rms_epsilon", 6, 1e-5),
        ("llama.rope.scaling.type", 8, "linear"),
        ("llama.rope.scaling.factor", 6, 2.0),
        ("llama.rope.scaling.original_context_length", 4, T),
        *((f"tokenizer.ggml.{key}", form, value) for key, form, value in tokens + own[kind]),
    ]


def gguf(fields: list[Field]) -> bytes:
    shapes = {"token_embd": (V, D), "output_norm": (D,)}
    shapes |= {f"blk.0.{name}": shape for _, name, shape in LLAMA.values()}
    content = struct.pack("<4sIQQ", b"GGUF", 3, len(shapes), len(fields))
    for key, form, value in fields:
        content += text(key) + struct.pack("<I", form) + written(form, value)
    at = 0
    for name, shape in shapes.items():
        content += text(f"{name}.weight") + struct.pack("<I", len(shape))
        content += struct.pack(f"<{len(shape)}QIQ", *reversed(shape), 0, at)
        at += 4 * math.prod(shape)
    return content + bytes(-len(content) % 32) + numbers(at // 4)


def written(form: int, value: Any) -> bytes:
    if form == 8:
        return text(value)
    if form == 9:
        kind, values = value
        return struct.pack("<IQ", kind, len(values)) + b"".join(written(kind, v) for v in values)
    return struct.pack(f"<{FORMS[form]}", value)


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value.encode())) + value.encode()


def gpt2() -> Files:
    place, names = FOUND.with_name("gpt2_tf"), ("checkpoint", "expected.json", "logits.npy")
    return {path.name: path.read_bytes() for path in place.iterdir() if path.name not in names}


# name -> what is opened ("" is the folder), and what makes the files
VICTIMS: dict[str, tuple[str, Callable[[], Files]]] = {
    **{f"llama2c{n}": ("model.bin", functools.partial(llama2c, n)) for n in range(3)},
    "llama2c_pt": ("ckpt.pt", llama2c_pt),
    "nanogpt": ("ckpt.pt", nanogpt),
    "nanogpt_kin": ("ckpt.pt", lambda: nanogpt(kin=True)),
    "nanogpt_old": ("ckpt.pt", lambda: nanogpt(zipped=False)),
    "safetensors": ("", lambda: folder("model.safetensors")),
    "sharded": ("", lambda: folder("model.safetensors.index.json")),
    "pickled": ("", lambda: folder("pytorch_model.bin")),
    "pickles": ("", lambda: folder("pytorch_model.bin.index.json")),
    "gguf": ("m.gguf", lambda: {"m.gguf": gguf(gguf_fields("llama"))}),
    "gguf_bpe": ("m.gguf", lambda: {"m.gguf": gguf(gguf_fields("gpt2"))}),
    "openai": ("", gpt2),
}


@functools.cache
def whole(victim: str) -> Files:
    return VICTIMS[victim][1]()


def read_all(victim: str, place: Path, changed: Files) -> None:
    """Open a victim of which some files are changed, and read all that it names."""
    opened, _ = VICTIMS[victim]
    for name, content in (whole(victim) | changed).items():
        (place / name).write_bytes(content)
    with open_any(place / opened) as source:
        for read in source.weights.values():
            read()
        if source.tokenizer:
            source.tokenizer()


def check(victim: str, name: str, content: bytes) -> None:
    """What must hold of every content: it is read, or an error of ours says where it is wrong."""
    with tempfile.TemporaryDirectory() as place:
        try:
            read_all(victim, Path(place), {name: content})
            return
        except CheckpointError as error:
            said = str(error)
    assert place in said, f"the message names no file: {said}"
    assert len(said) < 100_000


LIMITS = (0, 1, 127, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**62, 2**63, 2**64 - 1)


def damaged(content: bytes, random: Random) -> bytes:
    """A few bytes changed, put in, taken out, or set to a number that no size should have."""
    changed = bytearray(content)
    for _ in range(random.randint(1, 3)):
        ends = random.choice([len(changed), 100, 500])  # headers are in front, zip's behind
        at = random.randrange(min(ends, len(changed)) + 1)
        at = len(changed) - at if random.random() < 0.3 else at
        n = random.choice([1, 2, 4, 8])
        limit = (random.choice(LIMITS) % 256**n).to_bytes(n, "little")
        put, taken = random.choice([
            (bytes([random.randrange(256)]), 1), (limit, n), (limit, n), (random.randbytes(n), 0),
            (b"", n), (bytes(changed[at : at + 40]), 0), (b"", len(changed)),
        ])  # fmt: skip
        changed[at : at + taken] = put
    return bytes(changed)


STRANGE: list[Any] = [
    None, True, False, -1, 0, 1, 2, 2**31, 2**64, 10**40, -0.5, 1e-40, 1e308, math.nan, math.inf,
    "", ".", "..", "a\0b", "\ud800", "<s>", "BPE", "x" * 2000, "yarn", [], {}, [[]], [None], [0.5],
    {"type": []}, {"a": {}}, ["one.bin"] * 2, [1] * 300, {"rope_type": []}, {"rope_theta": "1"},
]  # fmt: skip


def mutated(tree: Any, random: Random) -> Any:
    """A JSON value of which one part, anywhere in it, is replaced, left out or moved."""
    parts = list(inside(tree))
    holders = [part for part in parts if isinstance(part, (dict, list)) and part]
    if not holders:
        return random.choice(STRANGE)
    holder = random.choice(holders)
    key = random.choice(list(holder) if isinstance(holder, dict) else range(len(holder)))
    other = random.choice([random.choice(STRANGE), random.choice(STRANGE), random.choice(parts)])
    other = json.loads(json.dumps(other))  # a copy: it may hold the holder
    if random.random() < 0.2:
        del holder[key]
    elif random.random() < 0.2 and isinstance(holder, dict):
        names = [name for part in parts if isinstance(part, dict) for name in part]
        holder[random.choice(names)] = other
    else:
        holder[key] = other
    return tree


def inside(tree: Any) -> list[Any]:
    inner = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else []
    return [tree] + [part for one in inner for part in inside(one)]


def other_json(content: bytes, random: Random) -> bytes:
    tree = json.loads(content)
    for _ in range(random.randint(1, 2)):
        tree = mutated(tree, random)
    return json.dumps(tree).encode()


def other_header(content: bytes, random: Random) -> bytes:
    """A safetensors file with another header, of the right length."""
    end = 8 + int.from_bytes(content[:8], "little")
    header = other_json(content[8:end], random)
    return len(header).to_bytes(8, "little") + header + content[end:]


def other_table(content: bytes, random: Random) -> bytes:
    """A zip archive of torch.save with another pickle, of the right checksum."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(file, "w") as new:
        for entry in old.infolist():
            inner = old.read(entry)
            is_table = entry.filename.endswith("data.pkl")
            new.writestr(entry.filename, other_steps(inner, random) if is_table else inner)
    return file.getvalue()


VALUES = [
    b"N", b"\x88", b"K\0", b"K\1", b"J\xff\xff\xff\xff", b"\x8a\x08" + bytes(7) + b"\x08", b")",
    b"]", b"}", b"X\1\0\0\0a", b"U\1\xff", b"G\xff\xf0" + bytes(6), b"ca\nb\n)R", b"ctorch\nint8\n",
]  # fmt: skip


def other_steps(content: bytes, random: Random) -> bytes:
    """A pickle of which a few steps are others: mostly a value in the place of a value."""
    at = [place for _, _, place in pickletools.genops(content)]
    steps = [content[a:b] for a, b in itertools.pairwise([*at, at[-1] + 1])]
    values = [i for i, step in enumerate(steps) if step[:1] in b"KMJXGNU]})\x88\x89\x8c"]
    for _ in range(random.randint(1, 2)):
        i = random.choice(values if random.random() < 0.9 else range(len(steps)))
        other = random.choice([b"", steps[i] * 2, random.choice(steps)])
        value = random.choice([random.choice(VALUES), steps[random.choice(values)]])
        steps[i] = value if random.random() < 0.8 else other
    return b"".join(steps)


FIELDS: list[tuple[int, Any]] = [
    (4, 0), (4, 2**24 - 1), (4, 2**32 - 1), (5, -1), (6, math.nan), (6, math.inf), (6, -1.0),
    (7, True), (8, ""), (8, "\0"), (8, "yarn"), (8, "gpt2"), (8, "x" * 3000), (9, (8, ["a", "b"])),
    (9, (8, [])), (9, (6, [math.nan] * V)), (9, (4, [1, 2])), (9, (7, [True])), (9, (8, [""] * V)),
    (9, (5, [6] * V)), (9, (8, ["x" * 5000, *TOKENS[1:]])), (10, 2**64 - 1), (12, 1e300),
]  # fmt: skip


def other_fields(victim: str, random: Random) -> bytes:
    """A GGUF file of which some field has another type and value."""
    fields = gguf_fields("gpt2" if victim == "gguf_bpe" else "llama")
    for _ in range(random.randint(1, 2)):
        i = random.randrange(len(fields))
        fields[i] = (fields[i][0], *random.choice(FIELDS))
    if random.random() < 0.2:
        del fields[random.randrange(len(fields))]
    return gguf(fields)


def hostile(victim: str, random: Random) -> tuple[str, bytes]:
    """One file of a victim, and what it is to hold instead."""
    files = whole(victim)
    name = random.choice(list(files))
    content, clever = files[name], random.random() < 0.6
    if clever and name.endswith(".gguf"):
        return name, other_fields(victim, random)
    if clever and name.endswith(".json"):
        return name, other_json(content, random)
    if clever and (name.endswith(".safetensors") or victim == "sharded"):
        return name, other_header(content, random)
    if clever and name == "meta.pkl":
        return name, other_steps(content, random)
    if clever and content.startswith(b"PK"):
        return name, other_table(content, random)
    return name, damaged(content, random)


@pytest.mark.parametrize("victim", VICTIMS)
def test_a_whole_file_is_read(victim, tmp_path):
    read_all(victim, tmp_path, {})


@pytest.mark.timeout(60)
@settings(max_examples=150, deadline=None)
@given(random=st.randoms(use_true_random=False))
@pytest.mark.parametrize("victim", VICTIMS)
def test_damage_gives_our_error_or_none(victim, random):
    check(victim, *hostile(victim, random))


@pytest.mark.timeout(60)
@pytest.mark.parametrize("path", sorted(FOUND.glob("*--*")), ids=lambda path: path.name)
def test_what_was_found_once_is_mended(path):
    victim, name, _ = path.name.split("--")
    check(victim, name, path.read_bytes())
