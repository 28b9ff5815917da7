"""Lists of addresses, to archives of the pages that stand there: `corpus fetch`.

    OUT/pages-00000.warc.gz ...   the pages
    OUT/journal.tsv               what became of each address, as it happened
    OUT/urls.tsv                  the addresses, each once
    OUT/fetch.json                what the folder was begun with
    OUT/counts.json               in = kept + dropped, by reason
    OUT/manifest.json             last: the folder is whole

Killed at any moment, it goes on where it stopped: see `web/journal.py`.
"""

import asyncio
import errno
import shutil
import signal
from collections import Counter
from collections.abc import Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from scratchlm import __version__
from scratchlm.base.errors import ConfigError, DataError
from scratchlm.base.files import (
    MANIFEST,
    beside,
    locked,
    make_parent,
    read_json,
    sha256_of,
    write_json,
    write_manifest,
)
from scratchlm.base.log import say
from scratchlm.base.progress import Progress, counted, in_bytes
from scratchlm.corpus.stages import COUNTS, Counts, keep_apart
from scratchlm.web import url_lists
from scratchlm.web.fetch import Fetcher
from scratchlm.web.fetch_config import FetchConfig
from scratchlm.web.journal import Done, Journal, Tally
from scratchlm.web.url_lists import UrlList, find_lists, write_list
from scratchlm.web.url_set import UrlSet
from scratchlm.web.urls import canonical

FORMAT = "scratchlm pages"
VERSION = 1
BEGUN = "fetch.json"
_SEEN = ".seen"  # hashes that do not fit into memory


def fetch_pages(
    paths: Sequence[Path | str] | Path | str, out: Path | str, *, config: FetchConfig | None = None
) -> Counts:
    """Fetch the page of each address once, and keep it in archives (WARC 1.1).

    paths    lists, or folders of them: .txt with an address a line, or .jsonl with "url" in each
             object, such as `find_urls` makes
    out      the folder to make; one that was begun with the same lists goes on
    returns  what became of the addresses, by reason
    raises   ConfigError for a folder of something else, or that was begun with other settings;
             DataError for lists that cannot be read, and a full disk
    """
    config, out = config or FetchConfig(), Path(out)
    lists = find_lists([paths] if isinstance(paths, Path | str) else paths)
    keep_apart(out, lists)
    make_parent(out)
    with locked(out, beside(out, "lock")):
        if config.overwrite and (out / BEGUN).is_file():
            shutil.rmtree(out)
        facts = _facts(lists, config)
        if (out / MANIFEST).is_file():
            return _finished(out, facts)
        try:
            counts = _fetch(lists, out, facts, config)
        except (KeyboardInterrupt, SystemExit):
            say(f"{out} is not finished: the same command goes on where it stopped.")
            raise
        except OSError as full:
            if full.errno != errno.ENOSPC:
                raise
            raise DataError(
                f"the disk is full: {out} could not be written. Free some space; the same command "
                "goes on where it stopped."
            ) from None
        write_json(out / COUNTS, counts.as_json())
        write_manifest(out, FORMAT, VERSION, **facts)
    dropped = ", ".join(f"{reason} {n:,}" for reason, n in counts.dropped.most_common())
    kept = f"{counted(counts.n_kept, 'page')} of {counted(counts.n_in, 'line')}"
    say(f"{kept} ({in_bytes(counts.kept_bytes)}): {out}{'; dropped: ' * bool(dropped)}{dropped}")
    return counts


def _facts(lists: Sequence[Path], config: FetchConfig) -> dict[str, Any]:
    """What the pages depend on, besides the web: to go on, it has to be the same."""
    return {
        "lists": [sha256_of(path) for path in lists],
        "limit": config.limit,
        "types": list(config.types),
        "max_mb": config.max_mb,
    }


def _finished(out: Path, facts: dict[str, Any]) -> Counts:
    manifest = read_json(out / MANIFEST)
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise ConfigError(f"{out} holds something else. Name another folder.")
    _check_same(out, manifest, facts)
    say(f"{out} is finished: nothing is left to fetch.")
    return Counts.of_json(read_json(out / COUNTS))


def _check_same(out: Path, begun: dict[str, Any], facts: dict[str, Any]) -> None:
    if others := [name for name, value in facts.items() if begun.get(name) != value]:
        raise ConfigError(
            f"{out} was begun with other {' and '.join(others)}. Go on with those, name another "
            "folder, or give --overwrite."
        )


def _fetch(lists: Sequence[Path], out: Path, facts: dict[str, Any], config: FetchConfig) -> Counts:
    """Fetch what is left, and count all."""
    read = _begin(lists, out, facts)
    with UrlSet(out / _SEEN) as seen:
        pages = UrlList(out / url_lists.NAME, seen)

        def known(done: Done) -> None:
            pages.taken[done.number] = 1
            if done.n_hops:
                seen.add([canonical(done.url) or ""])

        about = {
            "software": f"scratchlm/{__version__}",
            "format": "WARC File Format 1.1",
            "http-header-user-agent": config.agent,
            "robots": "classic",
        }
        with (
            Journal(out, len(pages), int(config.chunk_mb * 1e6), about, known) as journal,
            Progress("fetching", len(pages), "pages", start=journal.tally.n_done) as shown,
        ):
            tally = journal.tally
            fetcher = Fetcher(
                config,
                pages,
                seen,
                journal,
                lambda: shown.advance(1, note=f"{tally.n_kept:,} kept"),
            )
            _complete(fetcher.run())
    shutil.rmtree(out / _SEEN, ignore_errors=True)
    return _counts(read, journal.tally)


def _begin(lists: Sequence[Path], out: Path, facts: dict[str, Any]) -> Counter[str]:
    """Write the list of addresses, unless that was done; returns what was read and left out."""
    state = out / BEGUN
    if state.is_file():
        begun = read_json(state)
        _check_same(out, begun, facts)
        if "read" in begun:
            return Counter(begun["read"])
    elif out.is_dir() and any(out.iterdir()):
        raise ConfigError(f"{out} holds something else. Name another folder.")
    out.mkdir(exist_ok=True)
    write_json(state, facts)
    n_bytes = sum(path.stat().st_size for path in lists)
    with UrlSet(out / _SEEN) as seen, Progress("reading lists", n_bytes) as shown:
        read = write_list(lists, out / url_lists.NAME, seen, facts["limit"], shown.advance)
    if read["in"] == read["no address"]:  # the commonest of faults: another kind of file
        shutil.rmtree(out)
        raise DataError(
            f"no line of {', '.join(map(str, lists))} is an address. A .txt list has one a line, "
            "such as https://example.org/page; a .jsonl list has it under the key url."
        )
    write_json(state, {**facts, "read": read})
    return read


def _complete(work: Coroutine[Any, Any, None]) -> None:
    """Run it to its end; beside the loop of a notebook, which lets no other run, in a thread."""
    stoppable = _until_sigterm(work)
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        if asyncio.run(stoppable):
            signal.raise_signal(signal.SIGTERM)
    else:
        with ThreadPoolExecutor(1) as thread:
            thread.submit(asyncio.run, stoppable).result()


async def _until_sigterm(work: Coroutine[Any, Any, None]) -> bool:
    """Whether SIGTERM has ended it, as Ctrl-C would: a task that is left by an exit complains."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    before, stopped = signal.getsignal(signal.SIGTERM), []

    def stop() -> None:
        stopped.append(signal.SIGTERM)
        if task is not None:
            task.cancel()

    try:
        loop.add_signal_handler(signal.SIGTERM, stop)
    except (NotImplementedError, ValueError, RuntimeError):  # Windows; another thread than the main
        await work
        return False
    try:
        await work
    except asyncio.CancelledError:
        if not stopped:
            raise
    finally:
        loop.remove_signal_handler(signal.SIGTERM)
        signal.signal(signal.SIGTERM, before)
    return bool(stopped)


def _counts(read: Counter[str], tally: Tally) -> Counts:
    n_bytes = tally.n_bytes
    dropped = tally.dropped + Counter({reason: n for reason, n in read.items() if reason != "in"})
    counts = Counts(read["in"], tally.n_kept, dropped, in_bytes=n_bytes, kept_bytes=n_bytes)
    if counts.n_in != counts.n_kept + counts.dropped.total():
        raise AssertionError(f"{counts} does not add up")
    return counts
