"""The shipped weights of DDIM on the demo's patient, in volumes and in planes: the network alone, and refined."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import corner_error, rotation
from regnet.align import align
from regnet.demo import find_demo_data
from regnet.image import Grid, Image
from regnet.register import register
from regnet.transform import Affine


@pytest.fixture(scope="module")
def patient():
    return Image.read(find_demo_data() / "patient_T1.nii.gz")


def turned(image: Image, degrees: tuple[float, float, float], scale: float) -> tuple[Image, Affine]:
    """The image elsewhere in the world, and the way from its old points to the new ones."""
    matrix, centre = np.eye(4), image.grid.center()
    matrix[:3, :3] = rotation(degrees) * np.array([scale, 1.0, 1.0 if image.ndim == 2 else 1.0 / scale])
    matrix[:3, 3] = centre - matrix[:3, :3] @ centre + np.array([12.0, -9.0, 0.0 if image.ndim == 2 else 7.0])
    return Image(image.data, matrix @ image.index_to_world, image.ndim), Affine(matrix, image.ndim)


def test_a_turned_head_is_found(patient):
    moving, truth = turned(patient, (14.0, -12.0, 18.0), 1.1)
    start = corner_error(align(patient, moving, "nearest"), truth, patient.grid)
    alone = register(patient, moving, "ddim", refine="off")
    assert alone.report["weights"]["variant"] == "general" and alone.report["warnings"] == []
    assert corner_error(alone.transform, truth, patient.grid) < 0.75 * start
    for found in (register(patient, moving, "ddim").transform, align(patient, moving, "ddim")):
        assert corner_error(found, truth, patient.grid) < 1.0


def test_a_turned_slice_is_found(patient):
    middle = patient.data.shape[1] // 2
    slice_ = Image.from_numpy(patient.data[0, middle : middle + 1].numpy(), np.diag([1.0, 1.0, 1.0, 1.0]), 2)
    grid = Grid(slice_.grid.shape, np.diag([*patient.spacing[:2], 1.0, 1.0]), 2)
    fixed = Image(slice_.data, grid.index_to_world, 2)
    moving, truth = turned(fixed, (0.0, 0.0, 22.0), 1.08)
    start = corner_error(align(fixed, moving, "nearest"), truth, fixed.grid)
    alone = register(fixed, moving, "ddim", refine="off")
    assert alone.report["weights"]["variant"] == "general-2d"
    assert corner_error(alone.transform, truth, fixed.grid) < 0.5 * start
    assert corner_error(register(fixed, moving, "ddim").transform, truth, fixed.grid) < 1.0
