"""Lists of addresses to fetch, in files of many kinds, become one list without duplicates.

    urls.tsv     canonical form, tab, address as it was given; the number of a page is its line's

Addresses of one canonical form are one page; what is fetched is the first of them, as given.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from scratchlm.base.errors import DataError
from scratchlm.base.files import write_whole
from scratchlm.web.dumps import load_object
from scratchlm.web.url_set import UrlSet
from scratchlm.web.urls import MOST_URL, canonical

NAME = "urls.tsv"
_MOST_LINE = 1 << 20  # bytes; of a longer one the rest is passed over
_MANY = 10_000  # taken lines, behind which somebody else may go on
_BATCH = 4096  # addresses that are looked up together
_BREAKS = str.maketrans("", "", "\t\r\n")  # which browsers take out of an address
_SURROGATE = re.compile("[\ud800-\udfff]")


def find_lists(paths: Sequence[Path | str]) -> list[Path]:
    """The lists among `paths` and in the folders below them: .txt and .jsonl, in order.

    raises   DataError for what does not exist or is of another kind, and where there is none
    """
    if not paths:
        raise DataError("there is nothing to fetch: name a list of addresses, or a folder of some.")
    found: dict[Path, None] = {}
    for path in map(Path, paths):
        if path.is_dir():
            below = (file for file in sorted(path.rglob("*")) if _is_list(file))
            found.update((file, None) for file in below if not _is_hidden(file, path))
        elif not path.exists():
            raise DataError(f"{path} does not exist.")
        elif not _is_list(path):
            raise DataError(
                f"{path} is no list of addresses: it must be .txt, with one address a line, or "
                ".jsonl, with one object a line that has 'url'."
            )
        else:
            found[path] = None
    if not found:
        raise DataError(f"there is no .txt or .jsonl list in {', '.join(map(str, paths))}.")
    return list(found)


def _is_list(path: Path) -> bool:
    return path.suffix.lower() in (".txt", ".jsonl") and path.is_file()


def _is_hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def write_list(
    lists: Sequence[Path], out: Path, seen: UrlSet, limit: int, shown: Callable[[int], None]
) -> Counter[str]:
    """Write the addresses of lists, of equal ones the first, and count what is left out by reason.

    seen     empty; holds the canonical forms afterwards
    limit    lines that are read, blank ones and comments apart; 0 for all
    shown    called with the bytes that were read
    returns  also "in": all lines that were read
    """
    counts: Counter[str] = Counter()
    waiting: list[tuple[str, str]] = []

    def write_new() -> None:
        answers = seen.add([form for form, _ in waiting])
        for (form, url), is_new in zip(waiting, answers, strict=True):
            if is_new:
                file.write(f"{form}\t{url}\n")
            else:
                counts["duplicate"] += 1
        waiting.clear()

    with write_whole(out, text=True) as file:
        for url in _addresses(lists, limit, counts, shown):
            form = canonical(url) if len(url) <= MOST_URL else None
            if form is None:
                counts["no address"] += 1
            else:
                waiting.append((form, url))
            if len(waiting) == _BATCH:
                write_new()
        write_new()
    return counts


def _addresses(
    lists: Sequence[Path], limit: int, counts: Counter[str], shown: Callable[[int], None]
) -> Iterator[str]:
    """What stands in the lists, ready for one line of another."""
    for path in lists:
        is_json = path.suffix.lower() == ".jsonl"
        for line in _lines(path, shown):
            if is_json:
                record = load_object(line)
                url = record.get("url") if record else None
                text = url if isinstance(url, str) else ""
            else:
                text = line.decode("utf-8", "surrogateescape")
            counts["in"] += 1
            yield cleaned(text)
            if counts["in"] == limit:
                return


def _lines(path: Path, shown: Callable[[int], None]) -> Iterator[bytes]:
    """The lines of a list that are neither blank nor comments; too long ones are cut."""
    with open(path, "rb") as file:
        start = file.read(3)
        file.seek(3 if start == b"\xef\xbb\xbf" else 0)
        while line := file.readline(_MOST_LINE):
            shown(len(line))
            whole = line
            while len(whole) == _MOST_LINE and not whole.endswith(b"\n"):  # the rest of a long one
                whole = file.readline(_MOST_LINE)
            line = line.strip()
            if line and not line.startswith(b"#"):
                yield line


def cleaned(url: str) -> str:
    """An address on one line, with %XX for bytes that are no UTF-8 and for lone surrogates."""
    return _SURROGATE.sub(_percent, url.translate(_BREAKS).strip())


def site_of(url: str) -> str | None:
    """The host and port whose turn a page takes, without "www."; None: no address to fetch."""
    form = canonical(url) if len(url) <= MOST_URL else None
    return None if form is None else _site_of_form(form)


def _site_of_form(form: str) -> str:
    return form.split("/", 3)[2]


def _percent(match: re.Match[str]) -> str:
    char = match[0]
    escaped = "\udc80" <= char <= "\udcff"  # a byte, as Python's "surrogateescape" keeps it
    text = char.encode("utf-8", "surrogateescape" if escaped else "surrogatepass")
    return "".join(f"%{byte:02X}" for byte in text)


class UrlList:
    """The list that `write_list` wrote, read in order, and again from the start for what is left.

    taken    1 for each page that need not be given any more; one byte for each
    """

    def __init__(self, path: Path, seen: UrlSet) -> None:
        self._path = path
        n_pages, batch = 0, []
        with open(path, "rb") as file:
            for line in file:
                n_pages += 1
                batch.append(line.partition(b"\t")[0].decode("ascii"))
                if len(batch) == _BATCH:
                    seen.add(batch)
                    batch = []
        seen.add(batch)
        self.taken = bytearray(n_pages)

    def __len__(self) -> int:
        return len(self.taken)

    def left(self) -> Iterator[tuple[int, str, str] | None]:
        """The number, site and address of each page that is not taken when its turn comes.

        Now and then None, so that nobody has to wait for the end of a million that are.
        """
        with open(self._path, "rb") as file:
            for number, line in enumerate(file):
                if not self.taken[number]:
                    form, _, url = line.decode().rstrip("\n").partition("\t")
                    yield number, _site_of_form(form), url
                elif number % _MANY == 0:
                    yield None
