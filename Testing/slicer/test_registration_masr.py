"""MASR-Net through its panel's button: two contrasts of one anatomy, moved by a map that is known."""

from __future__ import annotations

import json

import numpy as np
import pytest
from two_contrasts import brain_pair, head_pair
from volumes import add_volume, through


@pytest.fixture
def panel(real_panel):
    return real_panel("RegNetMASR")


@pytest.fixture
def register(panel, press_apply):
    """``register(pair, values)``: the pair and the model's parameters into the panel, Apply; what came out.

    Gives (transform from world, its report, the pair's truth).
    """
    import vtk

    def run(pair, **values):
        fixed, moving, truth = pair
        panel.ui.fixedSelector.setCurrentNode(add_volume("fixed", fixed.array, fixed.matrix))
        panel.ui.movingSelector.setCurrentNode(add_volume("moving", moving.array, moving.matrix))
        for name, text in values.items():
            panel.form._fields[name]._widget.currentText = text
        node = press_apply(panel)
        assert node.GetName() == "moving to fixed (MASR-Net)"
        assert panel.ui.transformSelector.currentNode() is node
        assert panel.parameters.movingVolume.GetTransformNodeID() == node.GetID()
        from_world = vtk.vtkGeneralTransform()
        node.GetTransformFromWorld(from_world)
        return from_world, json.loads(node.GetAttribute("RegNet.Report")), truth

    return run


def smallest_determinant(transform, middle: np.ndarray, reach: float = 70.0, step: float = 5.0) -> float:
    """Of the Jacobian on a lattice of points around ``middle``; a fold is 0 or less."""
    line = np.arange(-reach, reach + step / 2, step)
    lattice = np.stack(np.meshgrid(line, line, line, indexing="ij"), -1)
    mapped = through(transform, (lattice + middle).reshape(-1, 3)).reshape(lattice.shape)
    jacobian = np.stack(np.gradient(mapped, step, axis=(0, 1, 2)), -1)
    return float(np.linalg.det(jacobian).min())


@pytest.mark.slow
def test_t1_to_t2_without_trained_weights(panel, register):
    """The demo's patient: no affine transform could come as close."""
    transform, report, truth = register(brain_pair(), descriptor="MIND-SSC (no trained weights)", weights="None")
    error = truth.error(through(transform, truth.points))
    assert error < 0.25 * truth.error(truth.points) and error < 0.95 * truth.best_affine_error()
    assert report["weights"] is None and report["parameters"]["descriptor"] == "mind" and report["warnings"] == []
    assert report["folding_percent"] == 0.0
    assert smallest_determinant(transform, truth.points.mean(0)) > 0.1


@pytest.mark.slow
def test_mr_to_ct_with_the_learned_descriptor(panel, register):
    """A painted head, with the weights that are shipped. Bone is bright in one and dark in the other."""
    transform, report, truth = register(head_pair(), start="Alignment alone")
    error = truth.error(through(transform, truth.points))
    assert error < 0.4 * truth.error(truth.points)
    assert report["folding_percent"] == 0.0
    assert smallest_determinant(transform, truth.points.mean(0)) > 0.1
    assert report["parameters"]["descriptor"] == "dsir"
    assert report["weights"] and report["weights"]["variant"] == "general", report["warnings"]
