"""Repositories of the Hugging Face hub: what a revision of a model or data set holds."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from scratchlm.base.runtime import hub_mirror
from scratchlm.web.download import TIMEOUT_SECONDS, Server, address
from scratchlm.web.download_folder import RemoteFile

_HUB = "https://huggingface.co"
_WORD = r"\w(?:[\w.-]{0,94}\w)?"  # of a repository's name, as the hub has it


def parse_name(name: str) -> tuple[str, str] | None:
    """The repository and the revision of "OWNER/NAME" or "OWNER/NAME@REVISION"; None: no name."""
    found = re.fullmatch(rf"({_WORD}/{_WORD})(?:@([\w./-]+))?", name, re.ASCII)
    if not found or ".." in name or "--" in found[1] or found[1].endswith(".git"):
        return None
    return found[1], found[2] or "main"


@dataclass(frozen=True)
class Listing:
    """What a hub says of one revision of a repository.

    url      that was asked
    commit   stands for the content of all files
    files    by their names, with folders; None where size or checksum are not told
    license  "" where it is not told
    subsets  the patterns of the files of each, as the repository declares them
    default  the subset that is meant where none is named; "" for none
    """

    url: str
    server: Server
    commit: str
    files: Mapping[str, RemoteFile | None]
    license: str = ""
    subsets: Mapping[str, Sequence[str]] = field(default_factory=dict)
    default: str = ""

    def take(self, names: Iterable[str]) -> list[RemoteFile]:
        """Some of the files, to download.

        raises   DataError where the size or checksum of one is not told
        """
        taken = []
        for name in names:
            file = self.files[name]
            if file is None:
                raise self.server.foreign(self.url)
            taken.append(file)
        return taken


def list_repository(
    kind: Literal["model", "dataset"],
    name: str,
    revision: str,
    pauses: Sequence[float] | None = None,
) -> Listing:
    """List the files of a repository, OWNER/NAME, at a branch, tag or commit.

    pauses   seconds between tries; None is a few
    raises   ConfigError for a mirror that is no address; DataError for what is unknown, closed or
             unreachable, and a server that is no hub
    """
    from huggingface_hub import HfApi, hf_hub_url
    from huggingface_hub.utils import build_hf_headers

    at = address("HF_ENDPOINT", hub_mirror() or _HUB)
    url = f"{at}/api/{kind}s/{name}"
    server = _server(kind, name, revision)

    def ask() -> Any:
        return HfApi(endpoint=at).repo_info(
            name, repo_type=kind, revision=revision, files_metadata=True, timeout=TIMEOUT_SECONDS
        )

    files: dict[str, RemoteFile | None] = {}
    try:
        info = server.patiently(ask, url, pauses)
        commit = str(info.sha or "")
        headers = build_hf_headers()  # httpx drops the token when another server is to be asked
        for entry in info.siblings or ():
            kind_of, digest = ("sha256", entry.lfs.sha256) if entry.lfs else ("git", entry.blob_id)
            file = entry.rfilename
            where = hf_hub_url(name, file, repo_type=kind, revision=commit, endpoint=at)
            is_told = digest and entry.size is not None
            remote = RemoteFile(file, where, entry.size, kind_of, digest, headers=headers)
            files[file] = remote if is_told else None
        card = info.card_data.to_dict() if kind == "dataset" and info.card_data else {}
        subsets, default = _subsets(card.get("configs") or ())
        found = Listing(url, server, commit, files, _license(card), subsets, default)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise server.foreign(url) from None
    if not commit:
        raise server.foreign(url)
    return found


def _license(card: Mapping[str, Any]) -> str:
    """The licences that a card names; of "other" ones the name that stands beside it."""
    named = card.get("license") or ()
    other = str(card.get("license_name") or "other")
    names = [named] if isinstance(named, str) else list(named)
    return ", ".join(other if name == "other" else name for name in names)


def _subsets(configs: Iterable[Mapping[str, Any]]) -> tuple[dict[str, list[str]], str]:
    """The patterns of each subset, and the default one (huggingface.co/docs/hub/datasets)."""
    patterns: dict[str, list[str]] = {}
    default = ""
    for config in configs:
        name = str(config["config_name"])
        folder = str(config.get("data_dir") or "").strip("/")
        paths = list(_paths(config.get("data_files") or ("**" if folder else ())))
        if not paths:
            continue
        patterns[name] = [f"{folder}/{path}" if folder else path for path in paths]
        if config.get("default") or (name == "default" and not default):
            default = name
    return patterns, default if default or len(patterns) != 1 else next(iter(patterns))


def _paths(data_files: Any) -> Iterable[str]:
    """The patterns in one pattern, a list of them, or a list of {"split": ..., "path": ...}."""
    if isinstance(data_files, str):
        return [data_files]
    if isinstance(data_files, Mapping):
        return _paths(data_files["path"])
    return [path for one in data_files for path in _paths(one)]


def _server(kind: str, name: str, revision: str) -> Server:
    page = name if kind == "model" else f"datasets/{name}"

    def refused(status: int, code: str) -> str:
        """What a refusal means, and the cure: the hub says 401 of what does not exist, too."""
        access = (
            f"accept the licence at {_HUB}/{page}, and set HF_TOKEN to a valid token of your "
            f"account ({_HUB}/settings/tokens)."
        )
        if code == "RevisionNotFound":
            return f"It has no revision {revision!r}: name a branch, a tag or a commit of it."
        if code == "GatedRepo" or status == 403:
            return f"It is not open to everyone: {access}"
        if status in (401, 404):
            return f"There is no {name}, or not for you: check the name. If it exists, {access}"
        return "Let HF_ENDPOINT name another mirror, or unset it."

    return Server("the Hugging Face hub", "HF_ENDPOINT", refused)
