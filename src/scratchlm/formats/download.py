"""Models from the internet: repositories of the Hugging Face hub, and OpenAI's own GPT-2."""

import base64
import re
from collections.abc import Collection
from fnmatch import fnmatchcase
from pathlib import Path

from scratchlm.base.errors import CheckpointError, ConfigError, DataError
from scratchlm.base.files import beside, locked
from scratchlm.base.log import warn
from scratchlm.base.runtime import cache_folder, gpt2_mirror
from scratchlm.web.download import Server, Unreachable, address
from scratchlm.web.download_folder import RemoteFile, bring, whole_revision
from scratchlm.web.hub import list_repository, parse_name

GPT2 = {"gpt2": "124M", "gpt2-medium": "355M", "gpt2-large": "774M", "gpt2-xl": "1558M"}
_OPENAI = "https://openaipublic.blob.core.windows.net/gpt-2/models"  # github.com/openai/gpt-2
_GPT2_FILES = (
    *("checkpoint", "encoder.json", "hparams.json", "vocab.bpe"),
    *("model.ckpt.index", "model.ckpt.data-00000-of-00001"),
)
_GPT2_SERVER = Server(
    "OpenAI's server",
    "SCRATCHLM_GPT2_URL",
    lambda _status, _code: "Let SCRATCHLM_GPT2_URL name another mirror, or unset it.",
)
_DESCRIPTION = (
    *("config.json", "generation_config.json", "tokenizer*.json", "tokenizer.model"),
    *("special_tokens_map.json", "chat_template.jinja"),
)
_WEIGHTS = (  # one file; or an index and its files; the first that a repository has
    ("model.safetensors", "model.safetensors.index.json", "model-*.safetensors"),
    ("pytorch_model.bin", "pytorch_model.bin.index.json", "pytorch_model-*.bin"),
)
_ELSEWHERE = "let SCRATCHLM_CACHE name a folder on another disk"


def is_remote(source: str) -> bool:
    """Whether it names a model of the internet: "hf:OWNER/NAME", "hf:OWNER/NAME@REVISION", "gpt2".

    A file or folder of that name goes first.
    """
    return (source.startswith("hf:") or source in GPT2) and not Path(source).exists()


def download(source: str, cache: Path | None = None) -> Path:
    """The folder that holds a model's files, whole and verified; what is missing is downloaded.

    source   as `is_remote` knows them
    cache    where such folders are kept; None is `models` in the user's cache folder
    raises   ConfigError for a name that cannot be, and a folder that another process downloads to;
             CheckpointError for what is unknown, closed, unreachable or damaged, and a full disk
    """
    repository, revision = ("", GPT2[source]) if source in GPT2 else _parsed(source)
    name = f"{repository}/{revision}".replace("/", "--") if repository else source
    folder = (cache or cache_folder() / "models") / name
    try:
        with locked(folder, beside(folder, "lock")):
            folder.mkdir(exist_ok=True)
            if repository:
                _download_repository(source, folder)
            elif whole_revision(folder) != revision:
                files = [_gpt2_file(source, one) for one in _GPT2_FILES]
                fetch = _GPT2_SERVER.fetch
                bring(source, folder, revision, files, fetch, elsewhere=_ELSEWHERE)
    except DataError as why:
        raise CheckpointError(str(why)) from None
    except OSError as bad:
        raise CheckpointError(
            f"{bad.filename or folder} cannot be written ({bad.strerror or bad}). Free space on "
            f"that disk, or {_ELSEWHERE}."
        ) from None
    return folder


def _parsed(source: str) -> tuple[str, str]:
    """The repository, OWNER/NAME, and the revision of "hf:OWNER/NAME@REVISION"."""
    named = parse_name(source.removeprefix("hf:")) if source.startswith("hf:") else None
    if named is None:
        raise ConfigError(
            f"{source!r} names no model of the internet. Write hf:OWNER/NAME or "
            f"hf:OWNER/NAME@REVISION, in letters, digits and . - _, or one of {', '.join(GPT2)}."
        )
    return named


def _download_repository(source: str, folder: Path) -> None:
    repository, revision = _parsed(source)
    whole = whole_revision(folder)
    if whole and whole == revision:
        return  # a commit never changes
    try:
        listing = list_repository("model", repository, revision, pauses=() if whole else None)
    except Unreachable as why:
        if not whole:
            raise
        warn(f"{why} Until then {folder} is used as it was downloaded before.")
        return
    files = listing.take(_needed(source, listing.files))
    if whole != listing.commit:
        bring(source, folder, listing.commit, files, listing.server.fetch, elsewhere=_ELSEWHERE)


def _needed(source: str, names: Collection[str]) -> list[str]:
    """Which files of a repository an import reads, the small ones first: never code."""
    plain = [name for name in names if re.fullmatch(r"[\w.-]+", name, re.ASCII)]  # no folders
    weights: list[str] = []
    for whole, index, parts in _WEIGHTS:
        if whole in plain:
            weights = [whole]
        elif index in plain:
            weights = [index, *(name for name in plain if fnmatchcase(name, parts))]
        if weights:
            break
    if not weights or "config.json" not in plain:
        gguf = any(name.endswith(".gguf") for name in names)
        raise CheckpointError(
            f"{source} has no config.json with model.safetensors or pytorch_model.bin, so it "
            "cannot be imported. " + "Download one of its GGUF files and import that." * gguf
        )
    return [name for name in plain if any(fnmatchcase(name, p) for p in _DESCRIPTION)] + weights


def _gpt2_file(source: str, name: str) -> RemoteFile:
    """One of OpenAI's files, of which its server tells the size and, as Azure does, the MD5."""
    at = address("SCRATCHLM_GPT2_URL", gpt2_mirror() or _OPENAI)
    url = f"{at}/{GPT2[source]}/{name}"
    headers = _GPT2_SERVER.headers_of(url)
    try:
        n_bytes = int(headers["Content-Length"])
        md5 = base64.b64decode(headers.get("Content-MD5", ""), validate=True).hex()
    except (KeyError, ValueError):
        raise _GPT2_SERVER.foreign(url, "with the size of the file") from None
    return RemoteFile(name, url, n_bytes, "md5", md5, etag=headers.get("ETag", ""))
