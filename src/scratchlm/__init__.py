"""Build your own language model from scratch: text, tokenizer, training, a model that talks.

Every verb of the command line is a function here. Nothing is loaded before it is used, so that
`import scratchlm` takes no time and works where PyTorch is absent.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # for editors and type checkers, which cannot see through the table below
    from scratchlm.generation.sampling import Sampling as Sampling
    from scratchlm.recipes.bench import bench as bench
    from scratchlm.recipes.build import build as build
    from scratchlm.recipes.chat import chat as chat
    from scratchlm.recipes.classify import TextClassifier as TextClassifier
    from scratchlm.recipes.clean_documents import clean_documents as clean_documents
    from scratchlm.recipes.corpus_report import report as corpus_report  # noqa: F401
    from scratchlm.recipes.evaluate import EvaluateConfig as EvaluateConfig
    from scratchlm.recipes.evaluate import evaluate as evaluate
    from scratchlm.recipes.export_model import export_model as export_model
    from scratchlm.recipes.extract_documents import extract_documents as extract_documents
    from scratchlm.recipes.fetch_pages import fetch_pages as fetch_pages
    from scratchlm.recipes.find_urls import find_urls as find_urls
    from scratchlm.recipes.finetune import finetune as finetune
    from scratchlm.recipes.finetune_config import ClassifyConfig as ClassifyConfig
    from scratchlm.recipes.finetune_config import DistillConfig as DistillConfig
    from scratchlm.recipes.finetune_config import DpoConfig as DpoConfig
    from scratchlm.recipes.finetune_config import SftConfig as SftConfig
    from scratchlm.recipes.generate import generate as generate
    from scratchlm.recipes.get_data import get_data as get_data
    from scratchlm.recipes.import_model import import_model as import_model
    from scratchlm.recipes.inspect import inspect as inspect
    from scratchlm.recipes.load import LanguageModel as LanguageModel
    from scratchlm.recipes.load import load as load
    from scratchlm.recipes.plan import plan as plan
    from scratchlm.recipes.plan_facts import Plan as Plan
    from scratchlm.recipes.prepare import PrepareConfig as PrepareConfig
    from scratchlm.recipes.prepare import prepare as prepare
    from scratchlm.recipes.pretrain import pretrain as pretrain
    from scratchlm.recipes.preview import preview as preview
    from scratchlm.recipes.preview_facts import Preview as Preview
    from scratchlm.recipes.quickstart import quickstart as quickstart
    from scratchlm.recipes.run_config import RunConfig as RunConfig
    from scratchlm.recipes.segment_documents import segment_documents as segment_documents
    from scratchlm.recipes.tokenizer import compare as compare_tokenizers  # noqa: F401
    from scratchlm.recipes.tokenizer import open_tokenizer as open_tokenizer
    from scratchlm.recipes.tokenizer import train as train_tokenizer  # noqa: F401
    from scratchlm.tokenizer.config import TokenizerConfig as TokenizerConfig
    from scratchlm.tokenizer.tokenizer import Tokenizer as Tokenizer

__version__ = "0.1.0"

_HOMES = {  # public name -> module:name
    "ClassifyConfig": "recipes.finetune_config:ClassifyConfig",
    "DistillConfig": "recipes.finetune_config:DistillConfig",
    "DpoConfig": "recipes.finetune_config:DpoConfig",
    "EvaluateConfig": "recipes.evaluate:EvaluateConfig",
    "LanguageModel": "recipes.load:LanguageModel",
    "Plan": "recipes.plan_facts:Plan",
    "PrepareConfig": "recipes.prepare:PrepareConfig",
    "Preview": "recipes.preview_facts:Preview",
    "RunConfig": "recipes.run_config:RunConfig",
    "Sampling": "generation.sampling:Sampling",
    "SftConfig": "recipes.finetune_config:SftConfig",
    "TextClassifier": "recipes.classify:TextClassifier",
    "Tokenizer": "tokenizer.tokenizer:Tokenizer",
    "TokenizerConfig": "tokenizer.config:TokenizerConfig",
    "bench": "recipes.bench:bench",
    "build": "recipes.build:build",
    "chat": "recipes.chat:chat",
    "clean_documents": "recipes.clean_documents:clean_documents",
    "compare_tokenizers": "recipes.tokenizer:compare",
    "corpus_report": "recipes.corpus_report:report",
    "evaluate": "recipes.evaluate:evaluate",
    "export_model": "recipes.export_model:export_model",
    "extract_documents": "recipes.extract_documents:extract_documents",
    "fetch_pages": "recipes.fetch_pages:fetch_pages",
    "find_urls": "recipes.find_urls:find_urls",
    "finetune": "recipes.finetune:finetune",
    "generate": "recipes.generate:generate",
    "get_data": "recipes.get_data:get_data",
    "import_model": "recipes.import_model:import_model",
    "inspect": "recipes.inspect:inspect",
    "load": "recipes.load:load",
    "open_tokenizer": "recipes.tokenizer:open_tokenizer",
    "plan": "recipes.plan:plan",
    "prepare": "recipes.prepare:prepare",
    "pretrain": "recipes.pretrain:pretrain",
    "preview": "recipes.preview:preview",
    "quickstart": "recipes.quickstart:quickstart",
    "segment_documents": "recipes.segment_documents:segment_documents",
    "train_tokenizer": "recipes.tokenizer:train",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'scratchlm' has no attribute {name!r}")
    module, its_name = _HOMES[name].split(":")
    value = getattr(importlib.import_module(f"scratchlm.{module}"), its_name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*sorted(_HOMES), "__doc__", "__version__"]
