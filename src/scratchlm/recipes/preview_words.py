"""What `preview` found, in words: for a terminal and for a page alike."""

from scratchlm.base.progress import counted
from scratchlm.recipes.preview_facts import Amount, Check, Part, Preview

MARKS = {None: "-", True: "ok", False: "WRONG"}


def title_of(made: Preview) -> str:
    """What is shown."""
    of = "" if made.n_batches is None else f" of {made.n_batches:,} in an epoch"
    step = "" if made.step is None else f", step {made.step:,}"
    return f"{made.place}: {made.method}, {made.split}, batch {made.batch:,}{of}{step}"


def facts_of(made: Preview) -> list[tuple[str, str]]:
    """(what, in words) of each line of facts."""
    words, stock = made.vocabulary, made.stock
    examples = "document" if made.method == "pretraining" else "example"
    all_of_it = f"{counted(stock.examples, examples)}, {counted(stock.tokens, 'token')}"
    if stock.learned is not None:
        share = stock.learned / stock.tokens if stock.tokens else 0.0
        all_of_it += f", {stock.learned:,} learned ({share:.1%})"
    lines = [
        ("this batch", _amount(made.shown)),
        (f"{made.n_looked:,} batch{'es' * (made.n_looked != 1)}", _amount(made.looked_at)),
        (f"all of {made.split}", f"{all_of_it}; the longest {examples} has {stock.longest:,}"),
    ]
    more = f", the model has {words.model_ids:,}" if words.model_ids != words.n_ids else ""
    lines.append(("vocabulary", f"{words.n_ids:,} ids{more}"))
    lines.append(("tokenizer", f"{words.kind}, SHA-256 {words.sha256[:16]}"))
    for sha256 in dict.fromkeys(words.shards):
        same = "the same tokenizer" if sha256 == words.sha256 else "ANOTHER tokenizer"
        lines.append(("shards", f"{same}, SHA-256 {sha256[:16]}"))
    return lines + [("note", note) for note in made.notes]


def _amount(amount: Amount) -> str:
    return (
        f"{counted(amount.rows, 'row')}, {counted(amount.examples, 'example')} in them, "
        f"{counted(amount.tokens, 'token')}, {amount.learned:,} learned "
        f"({amount.learned_share:.1%}), {amount.padding:,} padded ({amount.padding_share:.1%}), "
        f"the longest example has {amount.longest:,}"
    )


def checks_of(made: Preview) -> list[tuple[str, Check]]:
    """(mark, check) of each line of checks."""
    return [(MARKS[check.ok], check) for check in made.checks]


def title_of_part(part: Part) -> str:
    """Where a part of a row is from, and how much of it is learned."""
    name = f"{part.name}, " if part.name else ""
    place = f"{part.place}, " if part.place else ""
    learned = f"{part.n_learned:,} of " if part.name != "padding" else ""
    what = counted(part.n_tokens, "token" if part.name != "padding" else "position")
    said = " learned" if learned else ""
    return f"{name}{place}{learned}{what}{said}"
