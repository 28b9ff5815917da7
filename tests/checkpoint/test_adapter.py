"""Folders of adapters: ours come back exactly, peft's mean what peft says.

That peft itself loads ours, and what it computes, is in tests/parity/test_peft.py; what is refused,
in test_adapter_refusals.py.
"""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from scratchlm.base.errors import CheckpointError, ConfigError
from scratchlm.base.files import read_json, write_json
from scratchlm.checkpoint.adapter import (
    is_adapter,
    load_adapter,
    pack_adapter,
    read_adapter_config,
    save_adapter,
    whole_shapes,
)
from scratchlm.checkpoint.adapter_base import describe_base
from scratchlm.checkpoint.folder import load_model, save_model
from scratchlm.checkpoint.state import CheckpointStore
from scratchlm.data.loader import Batch
from scratchlm.model.classifier import Classifier
from scratchlm.model.config import ModelConfig
from scratchlm.model.lora import (
    LoraConfig,
    adapters,
    adapters_off,
    add_adapters,
    merge_adapters,
    remove_adapters,
    trainable_parameters,
)
from scratchlm.model.nf4 import quantise_frozen
from scratchlm.model.transformer import Transformer
from scratchlm.tokenizer.config import TokenizerConfig
from scratchlm.tokenizer.tokenizer import Tokenizer
from scratchlm.tokenizer.train import train_tokenizer
from scratchlm.training.optimizers import OptimConfig, ScheduleConfig
from scratchlm.training.trainer import TrainConfig, Trainer

V, T = 24, 12
SIZES = {"vocab_size": V, "max_seq_len": T, "n_layers": 2, "d_model": 16, "n_heads": 2}
FAMILIES = {
    "llama": ModelConfig(family="llama", **SIZES, n_kv_heads=1),
    "gpt2": ModelConfig(family="gpt2", **SIZES),
    "mixtral": ModelConfig(family="mixtral", **SIZES, n_experts=3, n_active=2, d_ff=20),
}
LORA = LoraConfig(rank=4, alpha=6.0, dropout=0.1)
TENSORS, CONFIG = "adapter_model.safetensors", "adapter_config.json"


def make_model(config: ModelConfig, seed: int = 0) -> Transformer:
    model = Transformer(config)
    model.initialise(torch.Generator().manual_seed(seed))
    return model.eval()


def disturb(model: Transformer) -> None:
    """Give every B numbers, so that adapters do something."""
    g = torch.Generator().manual_seed(3)
    for _, layer in adapters(model):
        torch.nn.init.normal_(layer.lora_b, std=0.3, generator=g)


@pytest.fixture
def tokens() -> torch.Tensor:
    return torch.randint(0, V, (3, T), generator=torch.Generator().manual_seed(1))


@pytest.fixture
def model() -> Transformer:
    return make_model(FAMILIES["llama"])


@pytest.mark.parametrize(
    "lora",
    [
        LORA,
        LoraConfig(rank=3, alpha=7.0, rslora=True, layers=("attention",)),
        LoraConfig(rank=2, layers=("v", "down")),
    ],
    ids=["all", "rslora", "some"],
)
@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_saved_adapter_is_loaded_bit_for_bit(family, lora, tokens, tmp_path):
    model = make_model(FAMILIES[family])
    base = describe_base(model, tmp_path / "base")
    plain = model(tokens)
    add_adapters(model, lora)
    disturb(model)
    expected = model(tokens)
    save_adapter(tmp_path / "a", model, lora, base, facts={"step": 7})
    assert is_adapter(tmp_path / "a")
    assert read_json(tmp_path / "a" / "manifest.json")["step"] == 7
    assert read_adapter_config(tmp_path / "a").base == base
    assert read_adapter_config(tmp_path / "a").base_name == str(tmp_path / "base")

    fresh = make_model(FAMILIES[family])
    again = load_adapter(fresh, tmp_path / "a")
    assert torch.equal(fresh(tokens), expected)
    with adapters_off(fresh):
        assert torch.equal(fresh(tokens), plain)
    ours, theirs = dict(adapters(model)), dict(adapters(fresh))
    assert ours.keys() == theirs.keys()
    for name, layer in ours.items():
        other = theirs[name]
        assert torch.equal(layer.lora_a, other.lora_a)
        assert torch.equal(layer.lora_b, other.lora_b)
        assert (layer.alpha, layer.scale, layer.drop) == (other.alpha, other.scale, other.drop)
    assert trainable_parameters(fresh).keys() == trainable_parameters(model).keys()
    assert again.matrices >= {name.rpartition(".")[2] for name in ours}
    assert replace(again, layers=lora.layers) == lora
    save_adapter(tmp_path / "b", fresh, again, base)  # and so on for ever
    assert (tmp_path / "b" / TENSORS).read_bytes() == (tmp_path / "a" / TENSORS).read_bytes()
    assert read_json(tmp_path / "b" / CONFIG) == read_json(tmp_path / "a" / CONFIG)


# What peft 0.21.2 wrote for GPT-2, every field of it.
GPT2_CONFIG = json.loads(
    r"""{"alora_invocation_tokens": null, "alpha_pattern": {"h\\.1\\.attn\\.c_attn": 3},
    "arrow_config": null, "auto_mapping": null, "base_model_name_or_path": "openai-community/gpt2",
    "bias": "none", "corda_config": null, "ensure_weight_tying": false, "eva_config": null,
    "exclude_modules": null, "fan_in_fan_out": true, "inference_mode": true,
    "init_lora_weights": true, "kasa_config": null, "layer_replication": null,
    "layers_pattern": null, "layers_to_transform": null, "loftq_config": {}, "lora_alpha": 6,
    "lora_bias": false, "lora_dropout": 0.1, "lora_ga_config": null, "megatron_config": null,
    "megatron_core": "megatron.core", "modules_to_save": null, "monteclora_config": null,
    "peft_type": "LORA", "peft_version": "0.21.2", "qalora_group_size": 16, "r": 4,
    "rank_pattern": {"c_fc": 2}, "revision": null, "target_modules": ["c_fc", "c_attn"],
    "target_parameters": null, "task_type": "CAUSAL_LM", "trainable_token_indices": null,
    "use_bdlora": null, "use_dora": false, "use_qalora": false, "use_rslora": false,
    "velora_config": null}"""
)


def write_gpt2(folder: Path) -> dict[str, torch.Tensor]:
    """A folder as peft writes it, with drawn tensors, which are returned."""
    folder.mkdir()
    g = torch.Generator().manual_seed(0)
    tensors = {}
    for i in range(2):
        for layer, rank, out in (("attn.c_attn", 4, 48), ("mlp.c_fc", 2, 64)):
            at = f"base_model.model.transformer.h.{i}.{layer}"
            tensors[f"{at}.lora_A.weight"] = torch.randn(rank, 16, generator=g)
            tensors[f"{at}.lora_B.weight"] = torch.randn(out, rank, generator=g) * 0.3
    write_json(folder / CONFIG, GPT2_CONFIG)
    save_file(tensors, folder / TENSORS, metadata={"format": "pt"})
    return tensors


@torch.no_grad()
def test_one_adapter_of_pefts_c_attn_is_three_of_ours(tokens, tmp_path):
    transformers = pytest.importorskip("transformers")
    model = make_model(FAMILIES["gpt2"])
    save_model(tmp_path / "base", model, None)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "base").eval()
    tensors = write_gpt2(tmp_path / "a")
    scales = {"transformer.h.0.attn.c_attn": 6 / 4, "transformer.h.1.attn.c_attn": 3 / 4}
    scales |= {f"transformer.h.{i}.mlp.c_fc": 6 / 2 for i in range(2)}
    for name, a in tensors.items():
        if ".lora_A" in name:
            layer = name.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
            b = tensors[name.replace("lora_A", "lora_B")]
            theirs.get_submodule(layer).weight += (b @ a * scales[layer]).T  # (inputs, outputs)

    facts = read_adapter_config(tmp_path / "a")
    assert (facts.base_name, facts.base) == ("openai-community/gpt2", None)
    lora = load_adapter(model, tmp_path / "a")

    torch.testing.assert_close(model(tokens), theirs(tokens).logits, rtol=1e-4, atol=1e-4)
    assert lora == LoraConfig(4, 6.0, 0.1, ("q", "k", "v", "up"))
    names = {name.rpartition(".")[2]: layer for name, layer in adapters(model)}
    assert torch.equal(names["q"].lora_a, names["v"].lora_a)
    save_adapter(tmp_path / "b", model, lora, describe_base(model, "gpt2"))
    saved = load_file(tmp_path / "b" / TENSORS)
    assert saved.keys() == tensors.keys()
    assert all(torch.equal(saved[name], tensors[name]) for name in saved)
    written = read_json(tmp_path / "b" / CONFIG)
    assert written["rank_pattern"] == {"c_fc": 2}
    assert written["alpha_pattern"] == {r"transformer\.h\.1\.attn\.c_attn": 3}
    assert written["target_modules"] == ["c_attn", "c_fc"]
    assert written["fan_in_fan_out"] is True


@torch.no_grad()
def test_three_adapters_of_ours_are_one_with_blocks(tmp_path):
    model = make_model(FAMILIES["gpt2"])
    base = describe_base(model, "gpt2")
    lora = LoraConfig(rank=4, alpha=6.0, layers=("q", "v", "out", "down"))
    add_adapters(model, lora)
    disturb(model)
    save_adapter(tmp_path / "a", model, lora, base)
    written = read_json(tmp_path / "a" / CONFIG)
    assert written["rank_pattern"] == {"c_attn": 8}
    assert written["alpha_pattern"] == {"c_attn": 12}  # so that alpha / rank stays
    assert written["target_modules"] == ["attn.c_proj", "c_attn", "mlp.c_proj"]
    b = load_file(tmp_path / "a" / TENSORS)[
        "base_model.model.transformer.h.0.attn.c_attn.lora_B.weight"
    ]
    blocks = b.view(3, 16, 2, 4).abs().amax(dim=(1, 3)) > 0  # (part, which adapter)
    assert blocks.tolist() == [[True, False], [False, False], [False, True]]


@torch.no_grad()
def test_base_in_other_dtypes_sizes_and_kinds_is_the_same_base(model, tmp_path):
    save_model(tmp_path / "base", model, None)
    base = describe_base(model, "here")
    narrow = load_model(tmp_path / "base", dtype="bfloat16")
    assert describe_base(narrow, "there").sha256 == base.sha256
    grown = make_model(replace(model.config, vocab_size=V + 3, tie_embeddings=False))
    grown.blocks, grown.norm = model.blocks, model.norm
    assert base.fits(describe_base(grown, "grown"))
    assert base.fits(describe_base(Classifier.of(model, ("a", "b"), "last"), "classes"))
    model.set_dropout(0.1)
    assert base.fits(describe_base(model, "trained"))
    add_adapters(model, LORA)
    disturb(model)
    merge_adapters(model)
    assert describe_base(model, "under adapters").sha256 == base.sha256
    remove_adapters(model, merge=True)
    assert not base.fits(describe_base(model, "merged"))


def test_adapter_of_another_base_is_refused_by_both_names(model, tmp_path):
    add_adapters(model, LORA)
    save_adapter(tmp_path / "a", model, LORA, describe_base(model, "runs/one"))
    for other in (make_model(model.config, seed=1), make_model(replace(model.config, n_layers=1))):
        with pytest.raises(CheckpointError) as refused:
            load_adapter(other, tmp_path / "a")
        assert "is an adapter of runs/one (llama, 2 layers of 16, weights " in str(refused.value)
        n = other.config.n_layers
        assert f"the one given (llama, {n} layers of 16, weights " in str(refused.value)
        assert not adapters(other)
        assert all(weight.requires_grad for weight in other.parameters())
    stretched = make_model(replace(model.config, rope_theta=99.0))
    with pytest.raises(CheckpointError, match="An adapter fits only the weights"):
        load_adapter(stretched, tmp_path / "a")


@torch.no_grad()
def test_base_in_four_bits_takes_an_adapter_by_what_it_was(model, tmp_path, tokens):
    base = describe_base(model, "here")
    add_adapters(model, LORA)
    disturb(model)
    save_adapter(tmp_path / "a", model, LORA, base)
    fresh = make_model(model.config)
    described = describe_base(fresh, "here")
    quantise_frozen(fresh)
    load_adapter(fresh, tmp_path / "a", base=described)
    similar = torch.nn.functional.cosine_similarity(fresh(tokens), model(tokens), dim=-1)
    assert similar.min() > 0.9
    again = pack_adapter(fresh, LORA, described, None)
    assert again.tensors.keys() == load_file(tmp_path / "a" / TENSORS).keys()


@torch.no_grad()
def test_whole_weights_beside_adapters_are_kept(model, tmp_path, tokens):
    base = describe_base(model, "here")
    add_adapters(model, LORA)
    disturb(model)
    for name in ("embedding.weight", "norm.weight"):
        model.get_parameter(name).requires_grad_(True).mul_(1.5)
    save_adapter(tmp_path / "a", model, LORA, base)
    fresh = make_model(model.config)
    shapes = whole_shapes(tmp_path / "a", fresh)
    assert shapes == {"embedding.weight": (V, 16), "norm.weight": (16,)}
    load_adapter(fresh, tmp_path / "a")
    assert torch.equal(fresh(tokens), model(tokens))
    assert fresh.head.weight is fresh.embedding.weight
    assert trainable_parameters(fresh).keys() == trainable_parameters(model).keys()

    grown = make_model(replace(model.config, vocab_size=V + 2))
    grown.blocks = make_model(model.config).blocks
    with pytest.raises(CheckpointError, match=r"embed_tokens.weight has the shape \(24, 16\)"):
        load_adapter(grown, tmp_path / "a")


def test_what_peft_cannot_hold_is_refused(tmp_path):
    model = make_model(FAMILIES["gpt2"])
    base = describe_base(model, "here")
    add_adapters(model, LORA)
    model.blocks[0].attention.q.bias.requires_grad_(True)
    with pytest.raises(ConfigError, match=r"attention.q.bias is trained beside the adapters"):
        save_adapter(tmp_path / "a", model, LORA, base)
    assert not (tmp_path / "a").exists()


@torch.no_grad()
def test_classifier_keeps_its_head_and_the_names_of_its_classes(model, tmp_path):
    base = describe_base(model, "here")
    made = Classifier.of(model, ("正常", "spam"), "mean")
    add_adapters(made, LORA)
    disturb(made)
    save_adapter(tmp_path / "a", made, LORA, base)
    facts = read_adapter_config(tmp_path / "a")
    assert facts.classes == (("正常", "spam"), "mean")
    written = read_json(tmp_path / "a" / CONFIG)
    assert (written["task_type"], written["modules_to_save"]) == ("SEQ_CLS", ["score"])
    fresh = Classifier.of(make_model(model.config), *facts.classes)
    assert not torch.equal(fresh.head.weight, made.head.weight)
    load_adapter(fresh, tmp_path / "a")
    assert torch.equal(fresh.head.weight, made.head.weight)
    assert fresh.head.weight.requires_grad
    with pytest.raises(CheckpointError, match=r"holds .*score.weight, for which this model has no"):
        load_adapter(make_model(model.config), tmp_path / "a")
    plain = make_model(model.config)
    add_adapters(plain, LORA)
    save_adapter(tmp_path / "plain", plain, LORA, base)
    with pytest.raises(CheckpointError, match=r"has no score.weight, the head of a classifier"):
        load_adapter(fresh, tmp_path / "plain")


@torch.no_grad()
def test_model_folder_holds_adapters_only_when_they_are_merged(model, tmp_path, tokens):
    plain = make_model(model.config)
    add_adapters(model, LORA)
    disturb(model)
    adapted = model(tokens)
    with pytest.raises(CheckpointError, match="save_adapter saves them"):
        save_model(tmp_path / "m", model, None)
    merge_adapters(model)
    save_model(tmp_path / "m", model, None)
    torch.testing.assert_close(load_model(tmp_path / "m")(tokens), adapted, rtol=1e-5, atol=1e-5)
    quantise_frozen(plain)
    with pytest.raises(CheckpointError, match="or weights in 4 bits"):
        save_model(tmp_path / "q", plain, None)


def test_tokenizer_goes_with_it(model, tmp_path):
    tokenizer = train_tokenizer(["to be or not to be"], TokenizerConfig(kind="char"))
    base = describe_base(model, "here")
    add_adapters(model, LORA)
    save_adapter(tmp_path / "a", model, LORA, base, tokenizer)
    assert Tokenizer.load(tmp_path / "a").hash == tokenizer.hash
    (tmp_path / "a" / TENSORS).write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"has 0 bytes instead of"):
        load_adapter(make_model(model.config), tmp_path / "a")


def make_trainer(model: Transformer, steps: int, losses: list[float]) -> Trainer:
    def batches(start):
        for n in range(start, 100):
            rows = torch.randint(0, V, (4, T + 1), generator=torch.Generator().manual_seed(n))
            yield Batch(rows[:, :-1].contiguous(), rows[:, 1:].contiguous())

    return Trainer(
        model,
        batches,
        TrainConfig(steps=steps, micro_batch=4, precision="float32"),
        OptimConfig(lr=1e-2),
        ScheduleConfig(kind="constant"),
        seq_len=T,
        hooks=[(1, lambda t: losses.append(t.last.loss_nats))],
    )


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_run_goes_on_from_a_checkpoint_exactly(family, tmp_path):
    def begin() -> Transformer:
        model = make_model(FAMILIES[family])
        add_adapters(model, LORA, torch.Generator().manual_seed(0))
        return model

    whole: list[float] = []
    torch.manual_seed(5)  # of dropout
    make_trainer(begin(), 8, whole).run()

    losses: list[float] = []
    torch.manual_seed(5)
    model = begin()
    base = describe_base(model, "here")
    trainer = make_trainer(model, 4, losses)
    trainer.run()
    store = CheckpointStore(tmp_path)
    packed = pack_adapter(model, LORA, base, None)
    store.save(4, packed.write, trainer.state_dict())

    del losses[4:]  # the hooks are called once more at the end
    torch.manual_seed(99)
    fresh = make_model(FAMILIES[family])
    newest = store.newest()
    assert newest is not None
    load_adapter(fresh, newest)  # its manifest is a checkpoint's
    trainer = make_trainer(fresh, 8, losses)
    trainer.load_state_dict(store.load(newest))
    trainer.run()
    assert losses[:8] == whole[:8]
