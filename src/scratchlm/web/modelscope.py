"""Data sets of ModelScope: what a revision of a repository holds.

Its protocol as its own library has it (github.com/modelscope/modelscope_hub, _legacy_api.py):

    GET /api/v1/datasets/OWNER/NAME                                      Data: License, ...
    GET /api/v1/datasets/OWNER/NAME/repo/tree?Revision=..&Recursive=True&PageNumber=..&PageSize=..
                                                      Data.Files: Path, Type, Size, Sha256
    GET /api/v1/datasets/OWNER/NAME/repo?Revision=..&FilePath=..         the bytes; takes ranges
"""

import hashlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from scratchlm.base.runtime import modelscope_mirror, modelscope_token
from scratchlm.web.download import Server, address
from scratchlm.web.download_folder import RemoteFile
from scratchlm.web.hub import Listing

_MODELSCOPE = "https://modelscope.cn"
_PAGE_SIZE = 200  # files in one answer, as its library asks for
DEFAULT_REVISION = "master"


def list_data_set(
    name: str, revision: str = DEFAULT_REVISION, pauses: Sequence[float] | None = None
) -> Listing:
    """List the files of a data set, OWNER/NAME, at a branch or tag.

    There a revision has no commit that stands for all files, so one is made of their checksums.

    pauses   seconds between tries; None is a few
    raises   ConfigError for a mirror that is no address; DataError for what is unknown, closed or
             unreachable, and a server that is no ModelScope
    """
    at = address("MODELSCOPE_ENDPOINT", modelscope_mirror() or _MODELSCOPE)
    url = f"{at}/api/v1/datasets/{name}"
    server = _server(name)
    headers = _headers()
    files: dict[str, RemoteFile | None] = {}
    try:
        facts = server.read_json(url, headers, pauses)["Data"]
        for entry in _entries(server, url, headers, revision, pauses):
            path, size = str(entry["Path"]), entry.get("Size")
            digest = str(entry.get("Sha256") or "")
            where = f"{url}/repo?{urlencode({'Revision': revision, 'FilePath': path})}"
            remote = RemoteFile(path, where, int(size or 0), "sha256", digest, headers=headers)
            files[path] = remote if digest and size is not None else None
        license = str(facts.get("License") or "")
    except (ValueError, KeyError, TypeError, AttributeError):
        raise server.foreign(url) from None
    known = sorted(file.name + file.tag for file in files.values() if file)
    commit = hashlib.sha256("\n".join(known).encode()).hexdigest()[:40]
    return Listing(url, server, commit, files, license)


def _entries(
    server: Server,
    url: str,
    headers: Mapping[str, str],
    revision: str,
    pauses: Sequence[float] | None,
) -> Iterator[Mapping[str, Any]]:
    """All files of all folders, page by page, until one has nothing new."""
    seen: set[str] = set()
    for page in itertools.count(1):
        query = {"Revision": revision, "Recursive": "True"}
        asked = urlencode({**query, "PageNumber": page, "PageSize": _PAGE_SIZE})
        answer = server.read_json(f"{url}/repo/tree?{asked}", headers, pauses)
        new = [entry for entry in answer["Data"]["Files"] or () if entry["Path"] not in seen]
        if not new:
            return
        seen.update(entry["Path"] for entry in new)
        yield from (entry for entry in new if entry["Type"] != "tree")


def _headers() -> dict[str, str]:
    """The user's token both ways: some of its addresses know only one (its library does so)."""
    token = modelscope_token()
    return {"Authorization": f"Bearer {token}", "Cookie": f"m_session_id={token}"} if token else {}


def _server(name: str) -> Server:
    page = f"{_MODELSCOPE}/datasets/{name}"

    def refused(status: int, _code: str) -> str:
        if status in (401, 403, 404):
            return (
                f"There is no {name} there, or not for you: look at {page}. If it exists, set "
                "MODELSCOPE_API_TOKEN to a token of your account."
            )
        return "Let MODELSCOPE_ENDPOINT name another mirror, or unset it."

    return Server("ModelScope", "MODELSCOPE_ENDPOINT", refused)
