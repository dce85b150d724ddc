"""What is missing before a registration can be judged, and the request that is sent when nothing is."""

from __future__ import annotations

import hashlib

import numpy as np
import slicer
import vtk
from slicer.i18n import tr as _

from . import conversion
from .inputs import is_flat, problem_of_pair, written
from .propagation_labels import partners, read_labels
from .propagation_placing import drawing_matrix, is_linear, leading_transform, problem_of_place, target_parent
from .result_nodes import report_of
from .transform_steps import SentTransform, TransformStep

PROBES = 4
"""Points per axis at which it is looked whether a transform, or a volume's place, has changed."""


def what_is_missing_to_judge(subject) -> str:
    """One sentence that says why nothing can be judged; empty when it can. Cheap: called at every change."""
    problem = problem_of_pair(*subject.volumes())
    if problem:
        return problem
    if subject.transform() is None:
        return _("There is no transform to judge; choose one, or register the pair.")
    return ""


def build_judge_request(subject, chosen, page: bool, folder) -> dict:
    """Write what is judged into ``folder`` and describe it, as the worker's protocol has it (LPS everywhere).

    Args:
        chosen: the nodes of both sides, see :class:`JudgeChoices`.
        page: whether the page is wanted, too.

    Raises:
        ValueError: a segmentation is empty; with one sentence for the user.
    """
    fixed, moving = subject.volumes()
    target = conversion.volume_to_array(fixed, target_parent(fixed))
    place_before = subject.place_before()
    before = np.linalg.inv(conversion.world_matrix(place_before)) if is_linear(place_before) else None
    return {
        "command": "judge",
        "fixed": written(target, "fixed", folder),
        "moving": written(conversion.volume_to_array(moving), "moving", folder),
        "transforms": _steps(subject, target, folder),
        "before": None if before is None else before.tolist(),
        "run": report_of(subject.transform()) or None,
        **_labels(subject, chosen, folder),
        "page": page,
        "names": [fixed.GetName(), moving.GetName()],
    }


def fingerprint(subject) -> str:
    """Changes with the transform, and with the place of either volume; cheap."""
    fixed, moving = subject.volumes()
    size = np.array(fixed.GetImageData().GetDimensions(), float)
    steps = (size - 1) / (PROBES - 1)
    index = np.stack(np.meshgrid(*[np.arange(PROBES)] * 3, indexing="ij"), -1).reshape(-1, 3)
    points = _map_points(target_parent(fixed), _applied(conversion.own_place(fixed), index * steps), to_world=True)
    moved = _map_points(leading_transform(moving, subject.transform()), points)
    probes = np.concatenate([points.ravel(), moved.ravel(), conversion.own_place(moving).ravel()])
    rounded = np.round(probes, 2) + 0.0  # no minus zero
    return hashlib.sha256(rounded.tobytes() + f"{fixed.GetID()} {moving.GetID()}".encode()).hexdigest()


def target_errors(subject, chosen) -> dict[str, float]:
    """Target registration errors in mm of the points of both sides, which come in pairs; {} without points.

    Raises:
        ValueError: they do not come in pairs; with one sentence for the user.
    """
    if chosen.fixed_points is None or chosen.moving_points is None:
        return {}
    fixed, moving = subject.volumes()
    points = [_points(node) for node in (chosen.fixed_points, chosen.moving_points)]
    if len(points[0]) != len(points[1]) or not len(points[0]):
        text = _("There are {fixed} fixed and {moving} moving points; they must come in pairs.")
        raise ValueError(text.format(fixed=len(points[0]), moving=len(points[1])))
    onto = _straight_place(fixed) @ drawing_matrix(chosen.fixed_points, fixed)
    own = drawing_matrix(chosen.moving_points, moving, subject.transform())
    leading = leading_transform(moving, subject.transform())
    mapped = _map_points(leading, _applied(onto, points[0]))
    errors = np.linalg.norm(mapped - _applied(own, points[1]), axis=1)
    return {
        "count": len(errors),
        "mean": float(errors.mean()),
        "median": float(np.median(errors)),
        "largest": float(errors.max()),
    }


def _applied(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    return points @ matrix[:3, :3].T + matrix[:3, 3]


def _straight_place(volume) -> np.ndarray:
    """What places a target, as a matrix in LPS mm.

    Raises:
        ValueError: it bends the volume: nobody knows then where on its resampled voxels something lies.
    """
    parent = target_parent(volume)
    problem = problem_of_place(volume, parent)
    if problem:
        raise ValueError(problem)
    return conversion.world_matrix(parent)


def _map_points(parent, points: np.ndarray, to_world: bool = False) -> np.ndarray:
    """World points (N, 3), LPS mm, in the coordinates below ``parent`` (None for none); or the other way round."""
    if parent is None:
        return points
    through = vtk.vtkGeneralTransform()
    (parent.GetTransformToWorld if to_world else parent.GetTransformFromWorld)(through)
    return conversion.flipped_points([through.TransformPoint(one) for one in conversion.flipped_points(points)])


def _points(markups) -> np.ndarray:
    """The placed control points of a markups node in its own coordinates, (N, 3) LPS mm."""
    defined = slicer.vtkMRMLMarkupsNode.PositionDefined
    count = markups.GetNumberOfControlPoints()
    placed = [n for n in range(count) if markups.GetNthControlPointPositionStatus(n) == defined]
    return conversion.flipped_points([markups.GetNthControlPointPosition(n) for n in placed])


def _steps(subject, target: conversion.ImageArray, folder) -> list[dict]:
    """The transform with its own fields, so that no fold is lost, where these hold the fixed volume; else sampled."""
    leading = leading_transform(subject.volumes()[1], subject.transform())
    sent = SentTransform(leading, target)
    if _are_held(sent.steps, target):
        return sent.sent(folder)
    return [TransformStep(np.eye(4), conversion.displacement_through(leading, target)).sent("transform-0", folder)]


def _are_held(steps: list[TransformStep], target: conversion.ImageArray) -> bool:
    """Whether the corners of the fixed volume lie in every field: Slicer carries a field on beyond its border, where
    for the worker, as for ITK, there is none."""
    size = np.array(target.array.shape[::-1], float)
    corners = np.array(np.meshgrid(*[(0.0, n - 1.0) for n in size], indexing="ij")).reshape(3, -1).T
    points = _applied(target.index_to_world, corners)
    for step in steps:
        if step.field is not None:
            index = _applied(np.linalg.inv(step.field.index_to_world), points)
            if (index < -0.5).any() or (index > np.array(step.field.array.shape[2::-1]) - 0.5).any():
                return False
        points = _applied(step.affine, points)
    return True


def _labels(subject, chosen, folder) -> dict:
    """The segments that both sides have by name; nothing unless both sides have a segmentation."""
    if chosen.fixed_segmentation is None or chosen.moving_segmentation is None:
        return {}
    fixed, moving = subject.volumes()
    moving_node, fixed_node = chosen.moving_segmentation, chosen.fixed_segmentation
    identities = list(moving_node.GetSegmentation().GetSegmentIDs())
    carried = read_labels(moving_node, identities, moving)
    theirs = partners(carried, fixed_node)
    if not theirs:
        text = _("The segmentations “{fixed}” and “{moving}” have no segment of the same name.")
        raise ValueError(text.format(fixed=fixed_node.GetName(), moving=moving_node.GetName()))
    reference = read_labels(fixed_node, theirs, fixed)
    own = drawing_matrix(moving_node, moving, subject.transform())
    onto = _straight_place(fixed) @ drawing_matrix(fixed_node, fixed)
    ndim = 2 if is_flat(fixed) else 3
    sides = (("moving", carried, own), ("fixed", reference, onto))
    found = {}
    for role, labels, matrix in sides:
        image = conversion.ImageArray(labels.array, matrix @ labels.index_to_world)
        found[f"{role}_labels"] = {**written(image, f"{role}_labels", folder), "ndim": ndim}
        found[f"{role}_segments"] = [entry.described() for entry in labels.entries]
    return found
