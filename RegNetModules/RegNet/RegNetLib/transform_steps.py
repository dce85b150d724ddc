"""A transform node as the worker takes it, step by step, and back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import slicer
import vtk

from . import conversion
from .inputs import written


@dataclass(frozen=True)
class TransformStep:
    """A point goes to ``affine`` (x + displacement(x)), LPS mm. ``interpolation`` is VTK's way to read the field."""

    affine: np.ndarray
    field: conversion.ImageArray | None = None
    interpolation: int = vtk.VTK_LINEAR_INTERPOLATION

    def sent(self, name: str, folder) -> dict:
        """As the worker's protocol has it, its field written into ``folder``."""
        field = written(self.field, name, folder) if self.field is not None else None
        return {"affine": self.affine.tolist(), "displacement": field}


class SentTransform:
    """The way from the world to below a transform node, for the worker to change what comes first in it.

    Fields stay on their own lattice. A transform of which a part is neither linear nor a field is sampled as a whole on
    ``lattice``, for the worker to know it by; what the worker then puts before it, is put before the transform itself.
    """

    def __init__(self, transform, lattice: conversion.ImageArray) -> None:
        from_world, parts = vtk.vtkGeneralTransform(), vtk.vtkCollection()
        transform.GetTransformFromWorld(from_world)
        slicer.vtkMRMLTransformNode.FlattenGeneralTransform(parts, from_world)
        steps = [_step(parts.GetItemAsObject(index)) for index in range(parts.GetNumberOfItems())]
        self._sampled = None in steps
        if self._sampled:
            # The linear step keeps the worker from working its own step into the samples.
            steps = [
                TransformStep(np.eye(4)),
                TransformStep(np.eye(4), conversion.displacement_through(transform, lattice)),
            ]
        self.steps = steps if self._sampled else _joined(steps) or [TransformStep(np.eye(4))]

    def sent(self, folder) -> list[dict]:
        """As the worker's protocol has it, the fields written into ``folder``."""
        return [step.sent(f"transform-{number}", folder) for number, step in enumerate(self.steps)]

    def changed(self, answer: list[dict], folder, transform):
        """The vtkGeneralTransform of the steps in the worker's ``answer``; ``transform`` is the node that was sent."""
        if self._sampled:
            return conversion.into_own_coordinates(self._pull(answer[:-1], [], folder), transform)
        known = [step.interpolation for step in self.steps if step.field is not None]
        return self._pull(answer, known, folder)

    @staticmethod
    def _pull(answer: list[dict], known: list[int], folder):
        """``known`` are the ways to read the last fields, which were there before."""
        result = vtk.vtkGeneralTransform()
        result.PostMultiply()
        fields = [step for step in answer if step.get("displacement")]
        modes = [vtk.VTK_LINEAR_INTERPOLATION] * (len(fields) - len(known)) + known
        for step in answer:
            if step.get("displacement"):
                place = step["displacement"]
                grid = conversion.grid_transform(folder.load(place["file"]), place["index_to_world"])
                grid.SetInterpolationMode(modes.pop(0))
                result.Concatenate(grid)
            result.Concatenate(conversion.pull_transform(step["affine"]))
        return result


def _step(part) -> TransformStep | None:
    """One elementary transform; None for a kind that the worker does not know."""
    if part.IsA("vtkLinearTransform"):
        return TransformStep(conversion.matrix_to_array(part))
    if part.IsA("vtkOrientedGridTransform") and not part.GetInverseFlag():
        return TransformStep(np.eye(4), conversion.grid_to_array(part), part.GetInterpolationMode())
    return None


def _joined(steps: list[TransformStep]) -> list[TransformStep]:
    """Linear steps taken into the step before them."""
    result: list[TransformStep] = []
    for step in steps:
        if step.field is None and result:
            before = result[-1]
            result[-1] = TransformStep(step.affine @ before.affine, before.field, before.interpolation)
        else:
            result.append(step)
    return result
