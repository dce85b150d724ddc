"""What one press of Apply works through: several volumes, or the frames of a sequence.

Both know what is registered to what, through which transforms the labels go, and what becomes of them.
"""

from __future__ import annotations

import numpy as np
import slicer
from slicer.i18n import tr as _

from . import conversion
from .propagation_labels import fill_segmentation
from .propagation_nodes import earlier_result, fill_result
from .propagation_parameters import Along
from .propagation_placing import drawing_matrix, placing, step_through, target_parent, world_place
from .propagation_sequence import SEQUENCE, fill_sequence, frame_of_reference, frame_title, proxy_of


class _Watched:
    """Nodes that a run is about, by their identity: they may be removed meanwhile."""

    def __init__(self, **nodes) -> None:
        self._kept = {role: (node.GetID(), node.GetName()) for role, node in nodes.items() if node is not None}

    def __getitem__(self, role: str):
        return slicer.mrmlScene.GetNodeByID(self._kept[role][0]) if role in self._kept else None

    def gone(self, *roles: str) -> str:
        """What was removed, as the beginning of a sentence; empty if nothing was."""
        for role in roles:
            if role in self._kept and self[role] is None:
                return _("“{name}” was removed meanwhile").format(name=self._kept[role][1])
        return ""


class VolumeTargets:
    """One scan's segmentation to one or several volumes.

    ``order`` are the numbers of the targets; ``goes_on`` says that one that is refused does not stop the others.
    """

    goes_on = True

    def __init__(self, parameters) -> None:
        targets = parameters.targets()
        self._uses_transform, self._backwards = parameters.uses_transform(), parameters.backwards
        self._nodes = _Watched(
            scan=parameters.scan,
            segmentation=parameters.segmentation,
            transform=parameters.transform if self._uses_transform else None,
            reference=parameters.reference,
            **{f"target {n}": target for n, target in enumerate(targets)},
        )
        self._titles = [target.GetName() for target in targets]
        self._results: list = []
        self.order = list(range(len(targets)))

    def title(self, n: int) -> str:
        return self._titles[n]

    def gone(self) -> str:
        """What of all was removed since the start, as the beginning of a sentence."""
        return self._nodes.gone("scan", "segmentation", "transform", "reference")

    def gone_target(self, n: int) -> str:
        return self._nodes.gone(f"target {n}")

    def drawn_on(self):
        """The volume of the segmentation."""
        return self._nodes["scan"]

    def volume(self, n: int):
        return self._nodes[f"target {n}"]

    def drawn_matrix(self) -> np.ndarray:
        """From the segmentation's own points to its volume's own ones, 4x4 in LPS mm."""
        return drawing_matrix(self._nodes["segmentation"], self._nodes["scan"], self._nodes["transform"])

    def labels_matrix(self) -> np.ndarray:
        """From the segmentation's own points to those that the transforms end at."""
        scan, drawn = self._nodes["scan"], self.drawn_matrix()
        return drawn if self._uses_transform else conversion.world_matrix(placing(scan, scan)) @ drawn

    def pair(self, n: int):
        """Target and scan as arrays in the world, to be registered; None where there is no need."""
        if self._uses_transform:
            return None
        scan, target = self._nodes["scan"], self.volume(n)
        fixed = conversion.volume_to_array(target, target_parent(target))
        return fixed, ("scan", lambda: conversion.volume_to_array(scan, placing(scan, scan)))

    def way(self, n: int, found: dict[int, dict], write) -> tuple[np.ndarray, list[dict]]:
        """The place of the target's voxels, and the worker's steps from there to the labels.

        Args:
            found: what registrations gave, by number.
            write: writes an :class:`ImageArray` under a name and describes it.
        """
        target = self.volume(n)
        if not self._uses_transform:
            return world_place(target, target_parent(target)), [found[n]]
        place, affine, field = step_through(self._nodes["transform"], self._nodes["scan"], target, self._backwards)
        return place, [{"affine": affine.tolist(), "displacement": write(field, f"field{n}") if field else None}]

    def reference(self, n: int):
        """The reference segmentation, and from its own points to the target's; (None, None) without one."""
        reference, target = self._nodes["reference"], self.volume(n)
        return (reference, drawing_matrix(reference, target)) if reference is not None else (None, None)

    def keep(self, n: int, array, entries, report: dict) -> None:
        self._results.append(fill_result(self._nodes["segmentation"], self.volume(n), array, entries, report))

    def finish(self, complete: bool, cancelled: bool) -> list[str]:
        """Names of the nodes that stay; those that are done stay also where a run ends early."""
        return [node.GetName() for node in self._results]


class FrameTargets:
    """The segmentation of one frame of a sequence to all of them, forwards and backwards in time."""

    goes_on = False

    def __init__(self, parameters) -> None:
        sequence = parameters.sequence
        self._nodes = _Watched(
            sequence=sequence,
            segmentation=parameters.segmentation,
            reference=parameters.reference,
            proxy=proxy_of(sequence),
        )
        self._frame, self._chain = parameters.frame, parameters.along is Along.CHAIN
        self._count = sequence.GetNumberOfDataNodes()
        self._titles = [frame_title(sequence, n) for n in range(self._count)]
        self._filled: dict[int, object] = {}
        self._reports: dict[int, dict] = {}
        self.order = [self._frame, *range(self._frame + 1, self._count), *range(self._frame - 1, -1, -1)]

    def title(self, n: int) -> str:
        return self._titles[n]

    def gone(self) -> str:
        gone = self._nodes.gone("sequence", "segmentation", "reference")
        if not gone and self._nodes["sequence"].GetNumberOfDataNodes() != self._count:
            gone = _("frames were added or removed meanwhile")
        return gone

    def gone_target(self, n: int) -> str:
        return ""

    def drawn_on(self):
        return self.volume(self._frame)

    def volume(self, n: int):
        return self._nodes["sequence"].GetNthDataNode(n)

    def _parent(self):
        """What places all frames: the transform of the node that shows them."""
        proxy = self._nodes["proxy"]
        return proxy.GetParentTransformNode() if proxy is not None else None

    def drawn_matrix(self) -> np.ndarray:
        proxy, segmentation = self._nodes["proxy"], self._nodes["segmentation"]
        if proxy is None:
            return conversion.world_matrix(segmentation.GetParentTransformNode())
        return drawing_matrix(segmentation, proxy)

    def labels_matrix(self) -> np.ndarray:
        return conversion.world_matrix(self._parent()) @ self.drawn_matrix()

    def pair(self, n: int):
        if n == self._frame:
            return None
        before = self._before(n) if self._chain else self._frame
        return self._array(n), (f"frame{before}", lambda: self._array(before))

    def _before(self, n: int) -> int:
        """The neighbour of a frame on the way to the segmented one."""
        return n - 1 if n > self._frame else n + 1

    def _array(self, n: int):
        return conversion.volume_to_array(self.volume(n), self._parent())

    def way(self, n: int, found: dict[int, dict], write) -> tuple[np.ndarray, list[dict]]:
        steps, at = [], n
        while at != self._frame:
            steps.append(found[at])
            at = self._before(at) if self._chain else self._frame
        return world_place(self.volume(n), self._parent()), steps

    def reference(self, n: int):
        reference = self._nodes["reference"]
        frame = frame_of_reference(self._nodes["sequence"], reference, n) if reference is not None else None
        if frame is None:
            return None, None
        proxy = self._nodes["proxy"]
        return frame, np.eye(4) if proxy is None else drawing_matrix(reference, proxy)

    def keep(self, n: int, array, entries, report: dict) -> None:
        """Keep a frame outside the scene until all are there: a sequence of two runs would be of no use."""
        frame, node = self.volume(n), slicer.vtkMRMLSegmentationNode()
        fill_segmentation(node, array, entries, frame)
        self._filled[n], self._reports[n] = node, report

    def finish(self, complete: bool, cancelled: bool) -> list[str]:
        """Name of the node that stays. Where a run fails, the frames that are done do, but not among older ones."""
        sequence, segmentation = self._nodes["sequence"], self._nodes["segmentation"]
        if None in (sequence, segmentation) or not self._filled:
            return []
        if not complete and (cancelled or earlier_result(segmentation, sequence, SEQUENCE) is not None):
            return []
        report = {"frames": {str(n): self._reports[n] for n in sorted(self._reports)}}
        return [fill_sequence(segmentation, sequence, self._filled, report).GetName()]


def make_targets(parameters):
    """What the panel's parameters ask for."""
    return FrameTargets(parameters) if parameters.is_along_sequence() else VolumeTargets(parameters)
