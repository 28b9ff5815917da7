"""`evaluate`: what a model can do, in numbers."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from scratchlm.base.files import check_new_file, write_text
from scratchlm.base.log import say
from scratchlm.cli.command import Command, Inline
from scratchlm.evaluation.results_page import render_evaluation
from scratchlm.evaluation.summary import save_evaluation
from scratchlm.evaluation.summary_table import as_table
from scratchlm.recipes.evaluate import EvaluateConfig, evaluate


@dataclass(frozen=True, kw_only=True)
class Evaluate(Command):
    """Ask a model tasks and texts, and print scores with their 95 % intervals.

    Known tasks are multiple choice by likelihood, as lm-evaluation-harness does it, and answers
    that the model writes. Their data come from `corpus get`, or lie in --folder. --data takes your
    own: records with prompt, choices and answer, with question and answer, or texts, whose loss is
    taken with a sliding window. A classifier is asked for the labels of --data. --against asks
    another model the same and says how sure the differences are. Items that stand in the text that
    the model was trained on are found, and scored apart.

    Examples:
      scratchlm evaluate runs/mine --tasks blimp,lambada --folder eval_data
      scratchlm evaluate runs/mine --data my_eval.jsonl --against runs/other
      scratchlm evaluate runs/mine --data held_out.txt --html report.html
      scratchlm evaluate runs/spam --data labelled.tsv
      scratchlm evaluate runs/chat --data q.json --judge http://127.0.0.1:11434/v1 --judge-model m
    """

    model: Annotated[Path, tyro.conf.Positional]  # a model folder, an adapter or a run
    settings: Annotated[EvaluateConfig, Inline]
    against: Path | None = None  # another model that is asked the same
    device: str | None = None  # cpu, cuda, cuda:1 or mps; none: the best there is
    dtype: Literal["float32", "bfloat16", "float16"] | None = None  # none: as weights are stored
    subjects: bool = False  # print a row for each subject of a task
    json: Path | None = None  # write all numbers to this file
    html: Path | None = None  # write a page with pictures to this file
    language: Literal["en", "zh"] = "en"  # of the page

    def run(self) -> None:
        """Evaluate, print the tables, write what is asked for."""
        for path in (self.json, self.html):
            if path is not None:
                check_new_file(path)
        found = evaluate(
            self.model,
            self.settings,
            against=self.against,
            device=self.device,
            dtype=self.dtype,
        )
        print(as_table(found, subjects=self.subjects), end="")
        if self.json:
            save_evaluation(self.json, found)
            say(f"all numbers: {self.json}")
        if self.html:
            write_text(self.html, render_evaluation(found, self.language))
            say(f"as a page: {self.html}")
