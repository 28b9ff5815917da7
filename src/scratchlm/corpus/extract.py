"""Files and web pages to documents, from shard to shard: the stage behind `corpus extract`.

WORK/plan/00000.jsonl       a list of files, or of pieces of WARC files: one shard
WORK/verdicts/00000.jsonl   documents of it that ran into a limit: they are not tried again
OUT/00000.jsonl.zst         its documents, and 00000_001.jsonl.zst ... where they are many
OUT/failed/00000.jsonl      the documents of it that gave no text, each with its reason
"""

import json
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from queue import SimpleQueue

from scratchlm.base.errors import ConfigError
from scratchlm.base.files import write_whole
from scratchlm.corpus.contents import Item, Part, Raw, contents
from scratchlm.corpus.read import Document
from scratchlm.corpus.records import Failure, Origin, Reading
from scratchlm.corpus.shards import find_sources, read_plan
from scratchlm.corpus.stages import Counts
from scratchlm.corpus.store import ENDING, n_bytes, write_documents
from scratchlm.corpus.verdicts import Verdicts, digest
from scratchlm.extraction.html import Mode
from scratchlm.extraction.result import Unreadable
from scratchlm.extraction.sandbox import VERDICTS, Limits, Sandbox

FAILED = "failed"
OLDER = "older.jsonl"  # verdicts of the run that is replaced
_FILE_BYTES = 1 << 28  # of documents in one file: the next stage takes a file at a time
_AHEAD = 2  # documents for each sandbox that wait or are ready


@dataclass(frozen=True)
class ExtractConfig:
    """How documents become text."""

    mode: Mode = "main"  # of web pages: main finds their text with care, quick 6 times faster
    time_limit: float = 10.0  # seconds of processor time for a document
    memory_mb: int = 800  # for the process that takes documents apart
    max_mb: int = 32  # of a document; plain text is cut there, anything else is left out
    text_key: str = "text"  # key of JSON lines, or column of tables, that holds the text
    document_separator: str | None = None  # between documents of a text file: "<|endoftext|>"
    limit: int = 0  # look at the first so many documents only; 0 takes all

    def __post_init__(self) -> None:
        for name, least in (("time_limit", 0.1), ("memory_mb", 300), ("max_mb", 1), ("limit", 0)):
            value = getattr(self, name)
            if not least <= value < float("inf"):
                raise ConfigError(f"extract.{name} = {value} must be at least {least}.")
        for name in ("document_separator", "text_key"):
            if getattr(self, name) == "":
                raise ConfigError(f"extract.{name} is empty: leave it out, or name one.")

    @property
    def limits(self) -> Limits:
        """What one document may cost."""
        return Limits(self.time_limit, self.memory_mb)

    @property
    def reading(self) -> Reading:
        """How files are read."""
        return Reading(self.max_mb << 20, self.text_key, self.document_separator)


@dataclass(frozen=True)
class ExtractSettings:
    """What the shards of a run depend on, beside their lists.

    made_of     stands for the files as they are
    libraries   their versions: another one may find another text
    """

    config: ExtractConfig
    made_of: str = ""
    libraries: tuple[str, ...] = ()


def extract_shard(shard: Path, out: Path, settings: ExtractSettings) -> Counts:
    """Extract the documents of one list of files."""
    config, counts = settings.config, Counts()
    known = shard.parents[1] / "verdicts"
    verdicts = Verdicts(known / shard.name, known / OLDER)
    with (
        Sandbox(config.limits) as sandbox,
        _write_failures(out.parent / FAILED / shard.name) as fail,
        _write_files(out) as write,
    ):
        items = (item for part in read_plan(shard) for item in contents(part, config.reading))
        for item in islice(items, config.limit or None):
            found: Document | Failure
            if isinstance(item, Raw):
                found, size = taken_apart(item, config.mode, sandbox, verdicts), len(item.body)
            else:
                found, size = item, 0 if isinstance(item, Failure) else n_bytes(item.text)
            if isinstance(found, Failure):
                fail(found)
                counts.drop(found.reason, found.n_bytes)
            else:
                write(found)
                counts.keep(size, n_bytes(found.text))
    return counts


def taken_apart(
    raw: Raw, mode: Mode, sandbox: Sandbox, verdicts: Verdicts | None = None
) -> Document | Failure:
    """The document, or why there is none."""
    failure = Failure(raw.id, raw.meta.get("url", raw.source), "", n_bytes=len(raw.body))
    if verdicts and (reason := verdicts.of(raw.id, raw.body)):
        return replace(failure, reason=reason, digest=digest(raw.body))
    try:
        found = sandbox.extract(raw.kind, raw.body, raw.hints, mode)
    except Unreadable as bad:
        failure = replace(failure, reason=bad.reason, detail=bad.detail)
        if bad.reason in VERDICTS:
            failure = replace(failure, digest=digest(raw.body))
            if verdicts:
                verdicts.add(failure)
        return failure
    meta = {**found.meta, **raw.meta}
    return Origin(raw.id, raw.source).document(found.text, meta, len(raw.body))


@contextmanager
def _write_failures(path: Path) -> Iterator[Callable[[Failure], None]]:
    """Write a file of failures; none where there are none."""
    path.parent.mkdir(exist_ok=True)
    with write_whole(path) as file:

        def write(failure: Failure) -> None:
            record = {name: value for name, value in asdict(failure).items() if value}
            line = json.dumps(record, ensure_ascii=False) + "\n"
            file.write(line.encode("utf-8", "replace"))

        yield write
    if not path.stat().st_size:
        path.unlink()


@contextmanager
def _write_files(out: Path) -> Iterator[Callable[[Document], None]]:
    """Write documents to `out` and, where they are many, to more files behind it."""
    stem = out.name.removesuffix(ENDING)
    for older in out.parent.glob(f"{stem}_*{ENDING}"):  # of a run that was killed
        older.unlink()
    size = number = 0
    with ExitStack() as stack:
        write = stack.enter_context(write_documents(out))

        def write_one(document: Document) -> None:
            nonlocal size, number, write
            if size >= _FILE_BYTES:
                stack.close()
                size, number = 0, number + 1
                path = out.with_name(f"{stem}_{number:03}{ENDING}")
                write = stack.enter_context(write_documents(path))
            write(document)
            size += n_bytes(document.text)

        yield write_one


def documents_of(
    paths: Sequence[Path | str],
    config: ExtractConfig | None = None,
    *,
    workers: int = 1,
    dropped: Counter[str] | None = None,
) -> Iterator[Document]:
    """The documents of files and folders of any kind, in order, as a stream.

    workers   sandboxes that take documents apart; the documents do not depend on how many
    dropped   filled: documents that gave no text and are left out, by reason
    raises    DataError for paths with nothing that can be read
    """
    config = config or ExtractConfig()
    files = find_sources(paths)
    items = (item for file in files for item in contents(Part(file), config.reading))
    for found in _in_parallel(islice(items, config.limit or None), config, workers):
        if isinstance(found, Document):
            yield found
        elif dropped is not None:
            dropped[found.reason] += 1


def _in_parallel(
    items: Iterator[Item], config: ExtractConfig, workers: int
) -> Iterator[Document | Failure]:
    """What becomes of items, in their order; each thread waits for a process."""
    waiting: deque[Future[Document | Failure] | Document | Failure] = deque()
    free: SimpleQueue[Sandbox] = SimpleQueue()

    def work(raw: Raw) -> Document | Failure:
        sandbox = free.get()
        try:
            return taken_apart(raw, config.mode, sandbox)
        finally:
            free.put(sandbox)

    def first() -> Document | Failure:
        one = waiting.popleft()
        return one.result() if isinstance(one, Future) else one

    with ExitStack() as stack:
        for _ in range(workers):
            free.put(stack.enter_context(Sandbox(config.limits)))
        pool = stack.enter_context(ThreadPoolExecutor(workers))
        for item in items:
            waiting.append(pool.submit(work, item) if isinstance(item, Raw) else item)
            if len(waiting) > _AHEAD * workers:
                yield first()
        while waiting:
            yield first()
