"""Which text trains and which validates."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

from scratchlm.corpus.read import Document

SplitName = Literal["train", "val"]


@dataclass(frozen=True, slots=True)
class Piece:
    """A document, or a piece of one, and the split that it goes to.

    continues   the split's last piece was of the same text
    """

    split: SplitName
    document: Document
    continues: bool


def divide_by_document(
    documents: Iterable[Document], fraction: float, seed: int
) -> Iterator[Piece]:
    """Give whole documents to validation, about `fraction` of them.

    Which ones follows from the seed and their ids alone, so a document stays on its side when
    others come or go.
    """
    unfinished = False
    for document in documents:
        name = f"{seed}:{document.id}".encode("utf-8", "surrogateescape")
        drawn = int.from_bytes(hashlib.sha256(name).digest()[:8], "big") / 2**64
        yield Piece("val" if drawn < fraction else "train", document, unfinished)
        unfinished = not document.ends


def divide_by_tail(documents: Iterable[Document], n_train_chars: int) -> Iterator[Piece]:
    """Give the first `n_train_chars` characters to training, the rest to validation.

    The document at the border is cut in two; its first part does not end (`ends` is False).
    """
    unfinished: SplitName | None = None  # where the last piece of the document at hand went
    left = n_train_chars
    for document in documents:
        train, val = document.text[:left], document.text[left:]
        left -= len(train)
        if train:
            part = replace(document, text=train, ends=document.ends and not val)
            yield Piece("train", part, unfinished == "train")
            unfinished = "train"
        if val:
            yield Piece("val", replace(document, text=val), unfinished == "val")
            unfinished = "val"
        if document.ends:
            unfinished = None
