"""Checkpoints written behind the back of the training: copies, one at a time, errors told."""

import threading

import pytest
import torch

from scratchlm.base.errors import CheckpointError
from scratchlm.checkpoint.behind import Behind, copied, copied_model
from scratchlm.model.config import ModelConfig
from scratchlm.model.transformer import Transformer


@pytest.mark.parametrize("tied", [True, False])
def test_a_copied_model_keeps_what_it_was(tied):
    model = Transformer(ModelConfig("llama", 16, 8, 2, 16, 2, tie_embeddings=tied))
    model.initialise()
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    copy = copied_model(model)
    with torch.no_grad():
        for weight in model.parameters():
            weight += 1
    after = copy.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert (copy.head.weight is copy.embedding.weight) == tied


def test_copied_values_are_apart_from_theirs():
    tensor = torch.zeros(3)
    copy = copied({"a": [tensor, (1, tensor)], "b": "text"})
    tensor += 1
    assert copy["a"][0].sum() == copy["a"][1][1].sum() == 0
    assert copy["b"] == "text"


def test_work_is_done_behind_the_back_and_one_at_a_time():
    behind, gate, done = Behind(), threading.Event(), []

    def first():
        gate.wait(10)
        done.append(1)

    behind.do(first)
    assert done == []  # whoever asked goes on
    gate.set()
    behind.do(lambda: done.append(2))  # waits for the first
    assert done[0] == 1
    behind.wait()
    assert done == [1, 2]
    behind.close()


def test_an_error_is_told_at_the_next_occasion_once():
    def fails():
        raise CheckpointError("the disk is full")

    behind = Behind()
    behind.do(fails)
    with pytest.raises(CheckpointError, match="the disk is full"):
        behind.wait()
    behind.wait()
    behind.do(fails)
    with pytest.raises(CheckpointError):
        behind.do(lambda: None)
    behind.close()
