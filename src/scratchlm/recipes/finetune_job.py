"""Fine-tuning as a job: examples, a goal for each method, weights or adapters."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from scratchlm.base.device import DTYPES
from scratchlm.base.files import replace_folder, sha256_of, write_manifest
from scratchlm.checkpoint import adapter
from scratchlm.checkpoint.adapter import load_adapter, pack_adapter
from scratchlm.checkpoint.adapter_base import Base, describe_base
from scratchlm.checkpoint.behind import copied_model
from scratchlm.checkpoint.folder import (
    load_classifier,
    load_model,
    save_model,
    write_model_files,
)
from scratchlm.data.rows import IGNORE
from scratchlm.evaluation.classification import ClassScores, class_scores
from scratchlm.evaluation.loss import HeldOut, evaluating, held_out_loss
from scratchlm.evaluation.preference import PreferenceScores, preference_scores
from scratchlm.examples.batches import ExampleLoader
from scratchlm.model.classifier import Classifier
from scratchlm.model.lora import adapters_off, add_adapters, remove_adapters
from scratchlm.model.nf4 import in_four_bits, quantise_frozen
from scratchlm.model.resize import resize_vocabulary
from scratchlm.model.transformer import Transformer
from scratchlm.recipes.finetune_config import (
    ClassifyConfig,
    DistillConfig,
    DpoConfig,
    FinetuneConfig,
    SftConfig,
)
from scratchlm.recipes.lessons import Lesson
from scratchlm.recipes.load import find_model
from scratchlm.recipes.pretrain_job import copy_files, write_model_folder
from scratchlm.recipes.run_hooks import Score
from scratchlm.tokenizer.tokenizer import Tokenizer
from scratchlm.training import fine_tuning
from scratchlm.training.neftune import add_noise
from scratchlm.training.objectives import Goal, TokenBatch
from scratchlm.training.parallel import Processes, share_of_step
from scratchlm.training.preference import PreferenceGoal, Reference, frozen_copy


class FinetuneJob:
    """What fine-tuning passes into the one run (`training_run.Job`).

    base     the model folder that is fine-tuned
    lesson   what it learns from
    """

    def __init__(
        self,
        config: FinetuneConfig,
        base: Path,
        lesson: Lesson,
        out: Path,
        processes: Processes,
    ) -> None:
        self.config, self.base, self.lesson, self.out = config, base, lesson, out
        self.tokenizer: Tokenizer = lesson.tokenizer
        self.seq_len = config.seq_len
        train, rank, n = config.train, processes.rank, processes.count
        share = self.share = share_of_step(train.micro_batch, train.accumulate, rank, n)
        self.loader = ExampleLoader(
            lesson.train,
            train.micro_batch,
            packed=config.packed,
            seed=train.seed,
            rank=share.rank,
            world_size=share.of,
        )
        self.validation: ExampleLoader | None = None
        if train.eval_every and lesson.validation:
            self.validation = ExampleLoader(
                lesson.validation,
                train.micro_batch,
                packed=config.packed,
                train=False,
                rank=rank,
                world_size=n,
            )
        self._byte_lengths = lesson.tokenizer.byte_lengths()
        self._described: Base  # with adapters: what they sit on
        self._preference: PreferenceGoal | None = None
        self.goal: Goal = fine_tuning.answers()  # until there is a model

    @property
    def score_type(self) -> type[Score]:
        """What `score` returns."""
        if isinstance(self.config, ClassifyConfig):
            return ClassScores
        return PreferenceScores if isinstance(self.config, DpoConfig) else HeldOut

    def make_model(self, newest: Path | None, device: torch.device) -> Transformer:
        """The base as this method needs it, with its adapters; then what a checkpoint has of it."""
        config = self.config
        if newest and not config.lora:
            load = load_classifier if self.lesson.class_names else load_model
            model: Transformer = load(newest, device=device, dtype="float32", verify=False)
        else:
            model = self.first_model(device)
        if newest and config.lora:
            load_adapter(model, newest, base=self._described, verify=False)
        model.set_dropout(config.dropout)
        self._freeze(model)
        self.goal = self._make_goal(model, device)
        return model

    def first_model(self, device: torch.device) -> Transformer:
        """The base with what the method adds to it, before anything is learned."""
        config = self.config
        # Frozen weights are kept in the dtype that they are multiplied in: half the memory, and
        # nothing to convert in every step. Adapters are float32.
        kept = config.train.precision if config.lora else "float32"
        model = load_model(self.base, device=device, dtype=DTYPES[kept])
        if config.lora:
            self._described = describe_base(model, self.base)
        resize_vocabulary(model, self.tokenizer.vocab_size)
        drawn = torch.Generator().manual_seed(config.train.seed)
        if self.lesson.class_names:
            assert isinstance(config, ClassifyConfig)
            model = Classifier.of(model, self.lesson.class_names, config.pooling, drawn)
        if config.quantise == "nf4":
            quantise_frozen(model)
        if config.lora:
            add_adapters(model, config.adapter, drawn)
            for name in self._whole_tensors(model):
                weight = model.get_parameter(name)
                weight.data = weight.data.float()
                weight.requires_grad_(True)
        return model

    def _freeze(self, model: Transformer) -> None:
        """Leave to train what the method trains."""
        config = self.config
        if isinstance(config, ClassifyConfig) and config.layers:
            model.requires_grad_(False)
            for part in (*model.blocks[-config.layers :], model.norm, model.head):
                part.requires_grad_(True)

    def _whole_tensors(self, model: Transformer) -> list[str]:
        """What is trained as a whole beside adapters: a new head; a table with new rows."""
        if isinstance(model, Classifier):
            return ["head.weight"]
        if not (self.lesson.speaker and self.lesson.speaker.n_new):
            return []
        return ["embedding.weight"] + ["head.weight"] * (not model.config.tie_embeddings)

    def _make_goal(self, model: Transformer, device: torch.device) -> Goal:
        config = self.config
        if isinstance(config, ClassifyConfig):
            n = len(self.lesson.class_names)
            return fine_tuning.classes(n, self._class_weights(), config.label_smoothing)
        if isinstance(config, DpoConfig):
            reference: Reference = _without_adapters
            if not config.lora:
                theirs = load_model(self.base, device=device, dtype="float32")
                theirs.compute_dtype = DTYPES[config.train.precision]
                resize_vocabulary(theirs, self.tokenizer.vocab_size)
                reference = frozen_copy(theirs)
            self._preference = PreferenceGoal(config.preference, reference)
            return self._preference.goal()
        if isinstance(config, DistillConfig):
            assert config.teacher is not None
            teacher = load_model(find_model(config.teacher), device=device)
            teacher.compute_dtype = DTYPES[config.train.precision]
            return fine_tuning.distillation(teacher, config.temperature, config.share)
        assert isinstance(config, SftConfig)
        if config.neftune:
            add_noise(model, config.neftune)
        return fine_tuning.answers(config.label_smoothing)

    def _class_weights(self) -> torch.Tensor | None:
        """n / (classes * n of the class), so that all classes weigh the same."""
        assert isinstance(self.config, ClassifyConfig)
        if not self.config.class_weights:
            return None
        targets = [int(one.targets[one.targets != IGNORE][0]) for one in self.lesson.train]
        counts = torch.bincount(torch.tensor(targets), minlength=len(self.lesson.class_names))
        return len(targets) / (len(counts) * counts.clamp(min=1).float())

    def describe(self, model: Transformer) -> str:
        """Family, size, and how much of it is trained."""
        n = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
        whole = model.n_parameters() + in_four_bits(model)
        more = ""
        if self.config.lora and (names := self._whole_tensors(model)):
            tables = " and ".join(name.removesuffix(".weight") for name in names)
            why = "" if isinstance(model, Classifier) else ", for the template's new tokens"
            more = f"; beside the adapters the {tables} as a whole{why}"
        return (
            f"{model.config.family}, {whole:,} parameters, of which {n:,} are trained "
            f"({n / whole:.1%}){more}"
        )

    def facts(self) -> dict[str, Any]:
        """Where examples and first weights come from."""
        return {
            "method": self.config.METHOD,
            "base": str(self.base),
            "data": {str(p): sha256_of(p) if p.is_file() else None for p in self.config.data},
            "examples": self.lesson.hash,
        }

    def score(self, model: Transformer, batches: Iterator[TokenBatch]) -> Score:
        """How good the model is on held-out examples."""
        if isinstance(model, Classifier):
            return class_scores(model, batches)
        if self._preference:
            return preference_scores(model, batches, self._preference)
        return held_out_loss(model, batches, self._byte_lengths, fine_tuning.answers().total)

    def writer(self, model: Transformer, *, copy: bool) -> Callable[[Path], None]:
        """A checkpoint is a model folder, or the folder of an adapter."""
        if self.config.lora:  # copies what little is trained
            packed = pack_adapter(model, self.config.adapter, self._described, self.tokenizer)
            return packed.write
        kept = copied_model(model) if copy else model
        return lambda folder: write_model_files(folder, kept, self.tokenizer)

    def write_result(self, checkpoint: Path, step: int) -> None:
        """OUT/model, a model folder; with adapters OUT/adapter, and OUT/model has them in it."""
        if not self.config.lora:
            write_model_folder(self.out, checkpoint, step)
            return
        facts = {"step": step, "run": self.out.name}
        save_model(self.out / "model", self._merged(checkpoint), self.tokenizer, facts=facts)

        def fill(folder: Path) -> None:
            copy_files(checkpoint, folder)
            write_manifest(folder, adapter.FORMAT, adapter.VERSION, **facts)

        replace_folder(self.out / "adapter", fill)

    def _merged(self, checkpoint: Path) -> Transformer:
        """The base, whole and in float32, with the adapters of a checkpoint in its weights."""
        plain = replace(self.config, quantise="none")
        plain = replace(plain, train=replace(plain.train, precision="float32"))
        job = FinetuneJob(plain, self.base, self.lesson, self.out, Processes.alone())
        model = job.first_model(torch.device("cpu"))
        load_adapter(model, checkpoint, base=job._described)
        remove_adapters(model, merge=True)
        return model


@contextmanager
def _without_adapters(model: Transformer) -> Iterator[Transformer]:
    """The reference of DPO with LoRA: the same model without adapters, and without dropout."""
    with evaluating(model), adapters_off(model):
        yield model
