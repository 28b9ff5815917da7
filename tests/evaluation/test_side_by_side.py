"""Batches beside each other: in order, with their share of the threads, and as they found them."""

import threading
from collections.abc import Iterator

import pytest
import torch

from scratchlm.evaluation.side_by_side import side_by_side

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def five_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(5)
    yield
    torch.set_num_threads(before)


def test_results_are_in_order_and_workers_share_the_threads():
    meeting = threading.Barrier(2, timeout=20)  # passed only by two at a time

    def run(item: int) -> tuple[int, int]:
        meeting.wait()
        return item * item, torch.get_num_threads()

    assert list(side_by_side(run, [4, 3], CPU)) == [(16, 2), (9, 2)]
    assert torch.get_num_threads() == 5
    seen: list[int] = []
    thread = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert seen == [5]  # threads of others begin as before


@pytest.mark.parametrize(
    ("items", "device"), [([1], CPU), ([], CPU), ([1, 2, 3], torch.device("meta"))]
)
def test_one_item_or_another_device_stays_in_this_thread(items, device):
    here = threading.get_ident()
    assert list(side_by_side(lambda _: threading.get_ident(), items, device)) == [here] * len(items)


def test_an_error_ends_it():
    done = []

    def run(item: int) -> None:
        if item == 2:
            raise ValueError("two")
        done.append(item)

    with pytest.raises(ValueError, match="two"):
        list(side_by_side(run, range(1, 10_000), CPU))
    assert len(done) < 9_998  # what waited is not begun
    assert torch.get_num_threads() == 5
