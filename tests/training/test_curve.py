"""The picture of a run is well-formed and shows what was measured."""

import xml.etree.ElementTree as ElementTree

import pytest

from scratchlm.training.curve import draw_loss_curve

SVG = "{http://www.w3.org/2000/svg}"


def curve(metrics, title="run"):
    return ElementTree.fromstring(draw_loss_curve(metrics, title))


def test_each_evaluation_is_a_dot_and_the_best_is_named():
    metrics = [{"step": i, "loss_nats": 4 / i} for i in range(1, 501)]
    metrics += [{"step": 250, "val_loss_nats": 1.9}, {"step": 500, "val_loss_nats": 1.75}]
    page = curve(metrics, "床前 <明月>")
    texts = ["".join(node.itertext()) for node in page.iter(f"{SVG}text")]
    assert len(page.findall(f"{SVG}circle")) == 2
    assert "1.750" in texts
    assert "床前 <明月>" in texts
    train, held_out = page.findall(f"{SVG}polyline")
    assert 40 <= len(train.get("points").split()) <= 60
    assert len(held_out.get("points").split()) == 2


@pytest.mark.parametrize("metrics", [[], [{"step": 1, "loss_nats": 0.0}]])
def test_a_run_that_hardly_began_is_still_a_picture(metrics):
    assert curve(metrics).tag == f"{SVG}svg"
