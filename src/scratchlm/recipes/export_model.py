"""`export`: a model as the file of another program, with proof that it says the same there."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch

from scratchlm.base.errors import CheckpointError, ConfigError
from scratchlm.base.files import (
    MANIFEST,
    beside,
    check_new_folder,
    check_room,
    make_parent,
    read_manifest,
    replace_folder,
    sync_files,
    sync_folder,
    write_json,
    write_text,
)
from scratchlm.base.log import say
from scratchlm.checkpoint.adapter import is_adapter
from scratchlm.checkpoint.folder import FORMAT, VERSION, check_vocabulary, is_classifier
from scratchlm.formats import gguf_read, gguf_write, llama2c_write
from scratchlm.formats.download import is_remote
from scratchlm.formats.gguf_tokens import token_fields
from scratchlm.formats.modelfile import modelfile, pieces_of
from scratchlm.formats.proof import TOLERANCES, Proof, Reference, compare, refer
from scratchlm.formats.readers import Imported, Llama2c, LlamaCpp, has_llama_cpp
from scratchlm.formats.source import Source, model_of, shapes_of
from scratchlm.recipes.import_model import find_source, open_any
from scratchlm.tokenizer.chat_template import ChatTemplate
from scratchlm.tokenizer.tokenizer import Tokenizer

Target = Literal["gguf", "llama2c", "ollama"]
Kind = gguf_write.Kind

_GGUF, _PROOF = "model.gguf", "proof.json"
_BYTES = {"f32": 4.0, "f16": 2.0, "bf16": 2.0, "q8_0": 1.125, "q4_0": 0.5625}  # of one number
_LLAMA_CPP_MORE = 3e-2  # llama.cpp rounds what goes through the model too, not only its weights


@dataclass(frozen=True)
class ExportResult:
    """What was written.

    out     the file, or the folder
    proof   that it says what the model says
    """

    out: Path
    kind: str
    n_bytes: int
    proof: Proof


@dataclass(frozen=True)
class _Job:
    """A model, opened, and what it is to become."""

    source: Source
    tokenizer: Tokenizer
    kind: Kind
    name: str


def export_model(
    model: Path | str,
    out: Path | str | None = None,
    *,
    to: Target = "gguf",
    kind: Kind | None = None,
    name: str | None = None,
    overwrite: bool = False,
) -> ExportResult:
    """Write a model for another program, read it back, and compare what the two say.

    model    a folder of a model or a run, or whatever `import_model` takes
    out      a .gguf file; for llama2c and ollama a folder; None: beside the model; of a download,
             in the current folder
    kind     how numbers are stored; None: as float16, bfloat16 where the model is (gguf), float32
             (llama2c)
    name     of the model, for those who list it; None: that of its folder
    raises   ConfigError for what the other program cannot compute or hold, before any work is done;
             CheckpointError where the file says something else: nothing is then written
    """
    if to not in get_args(Target):
        raise ConfigError(f"to = {to!r} is not one of {', '.join(get_args(Target))}.")
    if kind is not None and kind not in _BYTES:
        raise ConfigError(f"kind = {kind!r} is not one of {', '.join(_BYTES)}.")
    path = find_source(model)
    _refuse_parts(path)
    if (path / MANIFEST).is_file():
        read_manifest(path, FORMAT, VERSION)
    name = name or _name(path)
    with open_any(path) as source:
        if source.tokenizer is None:
            raise ConfigError(
                f"{path} has no tokenizer, and its file would be of no use. Import the model with "
                "--tokenizer first."
            )
        tokenizer = source.tokenizer()
        check_vocabulary(tokenizer, source.config)
        job = _Job(source, tokenizer, kind or _default_kind(source, to), name)
        beside_it = Path() if is_remote(str(model)) else path.parent  # not in the cache
        where = Path(out) if out else beside_it / _default_name(to, job)
        _check_place(where, to, overwrite)
        n_numbers = sum(torch.Size(shape).numel() for shape in shapes_of(source.config).values())
        check_room(where, int(_BYTES[job.kind] * n_numbers))
        return _WRITERS[to](job, where)


def _refuse_parts(path: Path) -> None:
    """Refuse folders of ours that hold no language model."""
    if is_adapter(path):
        raise ConfigError(
            f"{path} is an adapter, without the weights that it changes. Export the model folder "
            "beside it, which has it in its weights."
        )
    if is_classifier(path):
        raise ConfigError(
            f"{path} is a classifier, and the other programs write text. It is a folder that "
            "transformers loads as it is (AutoModelForSequenceClassification)."
        )


def _to_gguf(job: _Job, out: Path) -> ExportResult:
    fields = _gguf_fields(job)
    with _partial(out) as partial:
        proof = _write_gguf(job, fields, partial)
    write_json(out.with_suffix(f".{_PROOF}"), proof.as_json())
    return ExportResult(out, job.kind, out.stat().st_size, proof)


def _to_ollama(job: _Job, out: Path) -> ExportResult:
    fields, text = _gguf_fields(job), _modelfile(job)
    proof = Proof()

    def fill(folder: Path) -> None:
        proof.checks += _write_gguf(job, fields, folder / _GGUF).checks
        write_text(folder / "Modelfile", text)
        write_json(folder / _PROOF, proof.as_json())

    replace_folder(out, fill)
    return ExportResult(out, job.kind, (out / _GGUF).stat().st_size, proof)


def _to_llama2c(job: _Job, out: Path) -> ExportResult:
    config = job.source.config
    llama2c_write.check_model(config, job.kind)
    llama2c_write.tokenizer_pieces(job.tokenizer, config.vocab_size)
    proof = Proof()

    def fill(folder: Path) -> None:
        llama2c_write.write_model(job.source, folder / "model.bin", job.kind)
        llama2c_write.write_tokenizer(job.tokenizer, folder / "tokenizer.bin", config.vocab_size)
        reference = _refer(job)
        compare(proof, reference, Llama2c(folder), TOLERANCES[job.kind])
        with open_any(folder / "model.bin") as again:
            reader = Imported(again)
        compare(proof, reference, reader, TOLERANCES[job.kind])
        _require(proof)
        write_json(folder / _PROOF, proof.as_json())

    replace_folder(out, fill)
    return ExportResult(out, job.kind, (out / "model.bin").stat().st_size, proof)


_WRITERS: dict[str, Callable[[_Job, Path], ExportResult]] = {
    "gguf": _to_gguf,
    "llama2c": _to_llama2c,
    "ollama": _to_ollama,
}


def _gguf_fields(job: _Job) -> dict[str, Any]:
    """The tokenizer as fields, once it is known that GGUF can hold the model.

    raises   ConfigError saying what it cannot hold
    """
    gguf_write.check_model(job.source.config)
    return token_fields(job.tokenizer, job.source.config.vocab_size)


def _write_gguf(job: _Job, fields: dict[str, Any], path: Path) -> Proof:
    """Write the file and prove it."""
    gguf_write.write_gguf(job.source, fields, path, job.kind, name=job.name)
    proof = Proof()
    passed, found = gguf_write.check_tensors(job.source, path, job.kind)
    proof.add("tensors, read by the gguf package", passed, found)
    reference = _refer(job)
    with gguf_read.open_source(path) as again:
        reader = Imported(again)
    compare(proof, reference, reader, TOLERANCES[job.kind])
    del reader  # one model in memory at a time
    if has_llama_cpp():
        tolerance = TOLERANCES[job.kind] + _LLAMA_CPP_MORE
        compare(proof, reference, LlamaCpp(path, job.source.config), tolerance)
    _require(proof)
    return proof


def _refer(job: _Job) -> Reference:
    say("the file is written; now the model and the file are asked the same")
    return refer(model_of(job.source), job.tokenizer, job.kind)


def _require(proof: Proof) -> None:
    if not proof.passed:
        raise CheckpointError(
            "the exported file does not say what the model says, so it was not kept:\n  "
            + "\n  ".join(proof.lines())
        )


def _modelfile(job: _Job) -> str:
    source, tokenizer = job.source, job.tokenizer
    context = source.config.max_seq_len
    if not source.template:
        return modelfile(_GGUF, context, None, [])
    template = ChatTemplate(source.template, tokenizer)
    names = {i: name for name, i in tokenizer.special_tokens.items()}
    bos = names.get(tokenizer.bos_id or 0, "") if tokenizer.begins else ""
    ends = dict.fromkeys([*template.answer_end(), tokenizer.eos_id])
    stops = [names[i] for i in ends if i in names]
    return modelfile(_GGUF, context, pieces_of(template, bos), stops)


def _default_kind(source: Source, to: Target) -> Kind:
    if to == "llama2c":
        return "f32"
    return "bf16" if str(source.dtype) == "torch.bfloat16" else "f16"


def _name(path: Path) -> str:
    """That of the folder or file; of a run, the run's."""
    path = path.absolute()
    return path.parent.name if path.name == "model" else path.stem if path.is_file() else path.name


def _default_name(to: Target, job: _Job) -> str:
    return f"{job.name}-{job.kind}.gguf" if to == "gguf" else f"{job.name}-{to}"


def _check_place(out: Path, to: Target, overwrite: bool) -> None:
    if to != "gguf":
        check_new_folder(out, _PROOF, overwrite=overwrite)
        return
    if out.suffix != ".gguf":
        raise ConfigError(f"{out} does not end in .gguf, which programs look for. Name it so.")
    if out.is_dir():
        raise ConfigError(f"{out} is a folder. Name a file.")
    if out.exists() and not overwrite:
        raise ConfigError(
            f"{out} exists. Name another, or give --overwrite (in Python, overwrite=True)."
        )
    make_parent(out)


@contextmanager
def _partial(out: Path) -> Iterator[Path]:
    """A name for a file that gets its own when the block ends without an error."""
    partial = beside(out, "partial")
    try:
        yield partial
        sync_files([partial])
        os.replace(partial, out)
        sync_folder(out.parent)
    finally:
        partial.unlink(missing_ok=True)
