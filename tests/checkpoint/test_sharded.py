"""Tensors that are cut over processes; with more than one of them: tests/training/test_parallel."""

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from scratchlm.base.errors import CheckpointError
from scratchlm.checkpoint.sharded import (
    cut_like,
    fill_shards,
    part_with_shards,
    whole,
    whole_model,
    write_shards,
)
from scratchlm.model.config import ModelConfig
from scratchlm.model.transformer import Transformer


@pytest.fixture(scope="module")
def group():
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield dist.group.WORLD
    dist.destroy_process_group()


def train_one_step(layer: nn.Module) -> torch.optim.Optimizer:
    optimizer = torch.optim.AdamW(layer.parameters())
    layer(torch.ones(2, 3)).sum().backward()
    optimizer.step()
    return optimizer


def make_layer(*, shared: bool) -> nn.Module:
    torch.manual_seed(0)
    layer = nn.Linear(3, 5)
    return fully_shard(layer, mesh=init_device_mesh("cpu", (1,))) if shared else layer


def test_a_state_of_shards_is_written_and_read_by_a_process_without_them(group, tmp_path):
    state, shards = part_with_shards([train_one_step(make_layer(shared=True)).state_dict()])
    assert state[0]["state"][0]["exp_avg"] == {"shard": "0.state.0.exp_avg"}
    write_shards(shards, tmp_path / "shards", group)

    layer = make_layer(shared=False)
    plain = train_one_step(layer)
    fill_shards(state, [torch.optim.AdamW(layer.parameters())], tmp_path / "shards", None)
    for i, entries in plain.state_dict()["state"].items():
        for key, value in entries.items():
            assert torch.equal(value, state[0]["state"][i][key]), key


def test_whole_tensors_are_cut_as_the_weights_are(group, tmp_path):
    state = train_one_step(make_layer(shared=False)).state_dict()
    layer = make_layer(shared=True)
    fill_shards([state], [torch.optim.AdamW(layer.parameters())], tmp_path, group)
    moment = state["state"][0]["exp_avg"]
    assert moment.placements == layer.weight.placements
    assert torch.equal(whole(moment), torch.full((5, 3), 0.2))


def test_a_whole_tensor_stays_what_it_is():
    tensor = torch.ones(2)
    assert whole(tensor) is tensor
    assert cut_like(tensor, torch.zeros(2)) is tensor


@pytest.mark.usefixtures("group")
@pytest.mark.parametrize("tie", [True, False])
def test_a_shared_model_is_put_together(tie):
    config = ModelConfig(
        vocab_size=7, n_layers=1, d_model=4, n_heads=1, max_seq_len=4, tie_embeddings=tie
    )
    model = Transformer(config)
    model.initialise()
    assert whole_model(model, keep=True) is model
    expected = {name: weight.clone() for name, weight in model.state_dict().items()}
    fully_shard(model, mesh=init_device_mesh("cpu", (1,)))
    found = whole_model(model, keep=True)
    assert found.state_dict().keys() == expected.keys()
    assert all(torch.equal(found.state_dict()[name], expected[name]) for name in expected)
    assert (found.head.weight is found.embedding.weight) == tie


def test_shards_that_cannot_be_written_are_an_error_of_the_user(group, tmp_path):
    (tmp_path / "file").touch()
    _, shards = part_with_shards([train_one_step(make_layer(shared=True)).state_dict()])
    with pytest.raises(CheckpointError, match=r"could not be written to .*Error: .*make room"):
        write_shards(shards, tmp_path / "file" / "shards", group)


def test_shards_that_are_missing_are_named(group, tmp_path):
    state, shards = part_with_shards([train_one_step(make_layer(shared=True)).state_dict()])
    optimizers = [torch.optim.AdamW(make_layer(shared=False).parameters())]
    with pytest.raises(CheckpointError, match="shards does not hold the training state"):
        fill_shards(state, optimizers, tmp_path / "shards", None)
    shards.pop("0.state.0.exp_avg")
    write_shards(shards, tmp_path / "shards", group)
    state, _ = part_with_shards([train_one_step(make_layer(shared=True)).state_dict()])
    with pytest.raises(CheckpointError, match=r"Missing key.*0\.state\.0\.exp_avg"):
        fill_shards(state, optimizers, tmp_path / "shards", None)
