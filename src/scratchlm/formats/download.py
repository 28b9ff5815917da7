"""Models from the internet: repositories of the Hugging Face hub, and OpenAI's own GPT-2.

The library huggingface_hub is asked for lists, tokens and connections; the bytes are fetched here.
It throws away what a broken download had brought (since 1.31, its issue 4196), and its faster
protocol, xet, talks to servers that no mirror stands for.
"""

import base64
import re
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import TypeVar

from scratchlm.base.errors import CheckpointError, ConfigError
from scratchlm.base.files import beside, locked
from scratchlm.base.log import say, warn
from scratchlm.base.progress import Progress
from scratchlm.base.runtime import cache_folder, gpt2_mirror, hub_mirror
from scratchlm.formats.download_folder import (
    RemoteFile,
    bring,
    damaged,
    size_of,
    whole_revision,
)

GPT2 = {"gpt2": "124M", "gpt2-medium": "355M", "gpt2-large": "774M", "gpt2-xl": "1558M"}
_HUB = "https://huggingface.co"
_OPENAI = "https://openaipublic.blob.core.windows.net/gpt-2/models"  # github.com/openai/gpt-2
_GPT2_FILES = (
    *("checkpoint", "encoder.json", "hparams.json", "vocab.bpe"),
    *("model.ckpt.index", "model.ckpt.data-00000-of-00001"),
)
_DESCRIPTION = (
    *("config.json", "generation_config.json", "tokenizer*.json", "tokenizer.model"),
    *("special_tokens_map.json", "chat_template.jinja"),
)
_WEIGHTS = (  # one file; or an index and its files; the first that a repository has
    ("model.safetensors", "model.safetensors.index.json", "model-*.safetensors"),
    ("pytorch_model.bin", "pytorch_model.bin.index.json", "pytorch_model-*.bin"),
)
_WORD = r"\w(?:[\w.-]{0,94}\w)?"  # of a repository's name, as the hub has it
_URL = r"https?://([^/@\s]+@)?([\w.-]+|\[[0-9a-fA-F:]+\])(:\d{1,5})?(/\S*)?"
_PAUSES_SECONDS = (1, 2, 4, 8)  # before a request is made again
_TIMEOUT_SECONDS = 30  # without a byte
_Answer = TypeVar("_Answer")


class _Unreachable(CheckpointError):
    """Nobody answers, so nothing is known of the model."""


class _Passing(_Unreachable):
    """Nobody answers now: it may go better in a few seconds."""


class _CutShort(Exception):
    """A file ended before it should."""


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
                bring(source, folder, revision, files, partial(_fetch, source))
    except OSError as bad:
        raise CheckpointError(
            f"{bad.filename or folder} cannot be written ({bad.strerror or bad}). Free space on "
            "that disk, or let SCRATCHLM_CACHE name a folder on another."
        ) from None
    return folder


def _parsed(source: str) -> tuple[str, str]:
    """The repository, OWNER/NAME, and the revision of "hf:OWNER/NAME@REVISION"."""
    found = re.fullmatch(rf"hf:({_WORD}/{_WORD})(?:@([\w./-]+))?", source, re.ASCII)
    if not found or ".." in source or "--" in found[1] or found[1].endswith(".git"):
        raise ConfigError(
            f"{source!r} names no model of the internet. Write hf:OWNER/NAME or "
            f"hf:OWNER/NAME@REVISION, in letters, digits and . - _, or one of {', '.join(GPT2)}."
        )
    return found[1], found[2] or "main"


def _download_repository(source: str, folder: Path) -> None:
    whole = whole_revision(folder)
    if whole and whole == _parsed(source)[1]:
        return  # a commit never changes
    try:
        commit, files = _listed(source, pauses=() if whole else _PAUSES_SECONDS)
    except _Unreachable as why:
        if not whole:
            raise
        warn(f"{why} Until then {folder} is used as it was downloaded before.")
        return
    if whole != commit:
        bring(source, folder, commit, files, partial(_fetch, source))


def _listed(source: str, pauses: Sequence[float]) -> tuple[str, list[RemoteFile]]:
    """The commit that a repository's revision stands for, and the files of it that are needed."""
    from huggingface_hub import HfApi, ModelInfo, hf_hub_url
    from huggingface_hub.utils import build_hf_headers

    repository, revision = _parsed(source)
    address = _address("HF_ENDPOINT", hub_mirror() or _HUB)
    url = f"{address}/api/models/{repository}"
    api = HfApi(endpoint=address)

    def ask() -> ModelInfo:
        return api.model_info(
            repository, revision=revision, files_metadata=True, timeout=_TIMEOUT_SECONDS
        )

    files = []
    try:
        info = _patiently(ask, url, source, pauses)
        entries = {entry.rfilename: entry for entry in info.siblings or ()}
        headers = build_hf_headers()  # httpx drops the token when another server is to be asked
        for name in _needed(source, entries):
            entry = entries[name]
            kind, digest = ("sha256", entry.lfs.sha256) if entry.lfs else ("git", entry.blob_id)
            if not (info.sha and digest) or entry.size is None:
                raise ValueError(name)
            at = hf_hub_url(repository, name, revision=info.sha, endpoint=address)
            files.append(RemoteFile(name, at, entry.size, kind, digest, headers=headers))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise CheckpointError(
            f"{url} does not answer as the Hugging Face hub does, with the size and checksum of "
            "each file. Let HF_ENDPOINT name another mirror, or unset it."
        ) from None
    return str(info.sha), files


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
    address = _address("SCRATCHLM_GPT2_URL", gpt2_mirror() or _OPENAI)
    url = f"{address}/{GPT2[source]}/{name}"
    headers = _patiently(partial(_head, url), url, source)
    try:
        n_bytes = int(headers["Content-Length"])
        md5 = base64.b64decode(headers.get("Content-MD5", ""), validate=True).hex()
    except (KeyError, ValueError):
        raise CheckpointError(
            f"{url} does not answer as OpenAI's server does, with the size of the file. Let "
            "SCRATCHLM_GPT2_URL name another mirror, or unset it."
        ) from None
    return RemoteFile(name, url, n_bytes, "md5", md5, etag=headers.get("ETag", ""))


def _address(variable: str, url: str) -> str:
    if not re.fullmatch(_URL, url, re.ASCII):
        raise ConfigError(f"{variable} = {url!r} is no address. Write it as https://HOST/PATH.")
    return url.rstrip("/")


def _fetch(source: str, file: RemoteFile, part: Path, shown: Progress) -> None:
    """Append to a part what it lacks of its file, for as long as that goes on."""
    append = partial(_append, file, part, shown)
    _patiently(append, file.url, source, done=lambda: size_of(part))


def _append(file: RemoteFile, part: Path, shown: Progress) -> None:
    """Ask once for what a part lacks of its file; a server that sends no ranges sends it all."""
    from huggingface_hub import get_session

    start = size_of(part)
    headers = {**file.headers, "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
        if file.etag.startswith('"'):  # the weak ones, W/"...", do not go with ranges (RFC 9110)
            headers["If-Range"] = file.etag
    with get_session().stream(
        "GET", file.url, headers=headers, timeout=_TIMEOUT_SECONDS, follow_redirects=True
    ) as answer:
        if answer.status_code == 416:  # it is shorter there than the part is here
            raise damaged(file, part)
        answer.raise_for_status()
        goes_on = answer.headers.get("Content-Range", "").startswith(f"bytes {start}-")
        if start and not goes_on:
            shown.start = min(shown.start, shown.done - start)  # or the speed would be negative
            shown.advance(-start)
            part.unlink()
        with open(part, "ab") as out:
            for chunk in answer.iter_bytes():
                out.write(chunk)
                shown.advance(len(chunk), note=file.name)
    if (size := size_of(part)) < file.n_bytes:
        raise _CutShort(f"it ended after {size:,} of {file.n_bytes:,} bytes")


def _head(url: str) -> Mapping[str, str]:
    """What a server says of a file, without the file."""
    from huggingface_hub import get_session

    plain = {"Accept-Encoding": "identity"}  # or it might tell the length of a packed file
    answer = get_session().request(
        "HEAD", url, headers=plain, timeout=_TIMEOUT_SECONDS, follow_redirects=True
    )
    answer.raise_for_status()
    return answer.headers


def _patiently(
    action: Callable[[], _Answer],
    url: str,
    source: str,
    pauses: Sequence[float] | None = None,
    *,
    done: Callable[[], int] = lambda: 0,
) -> _Answer:
    """Do it; after a failure of connection or server again, with ever longer pauses between.

    pauses   seconds; None is a few
    done     how far it is: whoever gets further has all tries again
    raises   CheckpointError that names the address and the cure
    """
    # HTTPError is httpx's in version 1 of the library, httpx2's in version 2
    from huggingface_hub.errors import HTTPError, OfflineModeIsEnabled

    left = pauses = _PAUSES_SECONDS if pauses is None else pauses
    furthest = done()
    while True:
        try:
            return action()
        except OfflineModeIsEnabled:
            reason = f"{url} is not asked, since HF_HUB_OFFLINE is set. Unset it."
            raise _Unreachable(reason) from None
        except (HTTPError, _CutShort) as failure:
            error = _explained(failure, url, source)
        if done() > furthest:
            left, furthest = pauses, done()
        if not left or not isinstance(error, _Passing):
            raise error
        again = "no answer yet, once more" if len(left) < len(pauses) else f"{error} Once more"
        say(f"{again} in {left[0]} s.")
        time.sleep(left[0])
        left = left[1:]


def _explained(failure: Exception, url: str, source: str) -> CheckpointError:
    """A failure in words: the address, what is wrong there, the cure."""
    mirror = "SCRATCHLM_GPT2_URL" if source in GPT2 else "HF_ENDPOINT"
    again = f"Try again, it goes on where it stopped; {mirror} may name a mirror."
    answer = getattr(failure, "response", None)
    if answer is None:
        reason = str(failure) or type(failure).__name__
        return _Passing(f"{url} cannot be downloaded ({reason}). {again}")
    status = answer.status_code
    if status in (408, 429) or status >= 500:  # too slow, too often, broken
        return _Passing(f"{url} cannot be downloaded (the server answers {status}). {again}")
    refused = _refused(source, status, answer.headers.get("X-Error-Code", ""))
    return CheckpointError(f"{url} is refused (the server answers {status}). {refused}")


def _refused(source: str, status: int, code: str) -> str:
    """What a refusal means, and the cure: the hub says 401 of models that do not exist, too."""
    if source in GPT2:
        return "Let SCRATCHLM_GPT2_URL name another mirror, or unset it."
    repository, revision = _parsed(source)
    access = (
        f"accept the licence at {_HUB}/{repository}, and set HF_TOKEN to a valid token of your "
        f"account ({_HUB}/settings/tokens)."
    )
    if code == "RevisionNotFound":
        return f"It has no revision {revision!r}: name a branch, a tag or a commit of it."
    if code == "GatedRepo" or status == 403:
        return f"It is not open to everyone: {access}"
    if status in (401, 404):
        return f"There is no {repository}, or not for you: check the name. If it exists, {access}"
    return "Let HF_ENDPOINT name another mirror, or unset it."
