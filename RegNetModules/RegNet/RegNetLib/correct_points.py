"""Pairs of points to correct a registration by: numbered control points of the fixed and of the moving volume.

A pair has the same label in both lists. Fixed points lie in the world. Moving points lie in the moving volume's own
coordinates and are always under the transform that the volume is under: they stay with what is seen of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import slicer
import vtk
from slicer.i18n import tr as _
from slicer.util import VTKObservationMixin

POINTS_OF = "RegNetPointsOf"
"""Node reference from a list of points to the volume that it was made for."""
FIXED_COLOUR, MOVING_COLOUR = (0.25, 0.85, 0.4), (1.0, 0.6, 0.15)


@dataclass(frozen=True)
class Pair:
    """``fixed`` in the world, ``moving`` in the moving volume's own coordinates; RAS mm."""

    label: str
    fixed: np.ndarray
    moving: np.ndarray

    def error(self, transform) -> float:
        """How far the moving point is from where a transform node puts the fixed one, in mm."""
        return float(np.linalg.norm(_from_world(transform, self.fixed) - self.moving))


class PointPairs(VTKObservationMixin):
    """Keeps a panel's two lists of points in step.

    Args:
        get_parameters: gives the panel's parameter node, or None between scenes.
        on_changed: called without arguments when a point was added, moved or removed.
    """

    def __init__(self, get_parameters, on_changed: Callable[[], None]) -> None:
        VTKObservationMixin.__init__(self)
        self._get_parameters, self._on_changed = get_parameters, on_changed
        self._observed: list = []
        self._busy = False

    def close(self) -> None:
        self.removeObservers()
        self._observed = []

    def refresh(self) -> None:
        """Watch the lists and the moving volume that the panel has now."""
        parameters = self._get_parameters()
        now = [None] * 3 if parameters is None else [*self._lists(), parameters.movingVolume]
        if len(now) == len(self._observed) and all(a is b for a, b in zip(now, self._observed, strict=True)):
            return
        self.removeObservers()
        self._observed = now
        for node in now[:2]:
            if node is not None:
                for event in (node.PointPositionDefinedEvent, node.PointModifiedEvent):
                    self.addObserver(node, event, self._on_points)
                self.addObserver(node, node.PointRemovedEvent, self._on_removed)
        if now[2] is not None:
            self.addObserver(now[2], now[2].TransformModifiedEvent, self._follow)
        self._follow()

    def pairs(self) -> list[Pair]:
        """The pairs of which both points have been placed, in the order of the fixed ones."""
        fixed, moving = self._lists()
        if fixed is None or moving is None:
            return []
        there, here = _placed(fixed), _placed(moving)
        found = []
        for label, index in there.items():
            if label in here:
                place, other = np.zeros(3), np.zeros(3)
                fixed.GetNthControlPointPositionWorld(index, place)
                moving.GetNthControlPointPosition(here[label], other)
                found.append(Pair(label, place, other))
        return found

    def begin_placing(self) -> None:
        """The next click in a slice view places a fixed point."""
        fixed, _moving = self._make_lists()
        logic = slicer.modules.markups.logic()
        logic.SetActiveList(fixed)
        logic.StartPlaceMode(False)

    def end_placing(self) -> None:
        """Clicks select and drag again, if they were to place a point of ours."""
        application = slicer.app.applicationLogic()
        interaction, chosen = application.GetInteractionNode(), application.GetSelectionNode()
        fixed = self._lists()[0]
        placing = interaction is not None and interaction.GetCurrentInteractionMode() == interaction.Place
        if placing and fixed is not None and chosen.GetActivePlaceNodeID() == fixed.GetID():
            interaction.SwitchToViewTransformMode()

    def delete(self, labels: list[str]) -> None:
        for node in self._lists():
            for index in reversed(range(node.GetNumberOfControlPoints() if node is not None else 0)):
                if node.GetNthControlPointLabel(index) in labels:
                    node.RemoveNthControlPoint(index)

    def clear(self) -> None:
        self.delete([pair.label for pair in self.pairs()])

    def jump(self, label: str) -> None:
        """Show a fixed point in all slice views."""
        pair = next((pair for pair in self.pairs() if pair.label == label), None)
        if pair is not None:
            slicer.modules.markups.logic().JumpSlicesToLocation(*pair.fixed, True, -1)

    def _lists(self) -> tuple:
        """The lists of the present pair of volumes, (None, None) where they have none."""
        parameters = self._get_parameters()
        if parameters is None:
            return None, None
        lists = parameters.correctFixedPoints, parameters.correctMovingPoints
        volumes = parameters.fixedVolume, parameters.movingVolume
        both = zip(lists, volumes, strict=True)
        theirs = [node is not None and node.GetNodeReference(POINTS_OF) is volume for node, volume in both]
        return lists if all(theirs) else (None, None)

    def _make_lists(self) -> tuple:
        parameters = self._get_parameters()
        if None in self._lists():
            with slicer.util.NodeModify(parameters):
                parameters.correctFixedPoints = _new_list(_("Fixed points"), FIXED_COLOUR, parameters.fixedVolume)
                parameters.correctMovingPoints = _new_list(_("Moving points"), MOVING_COLOUR, parameters.movingVolume)
        self.refresh()
        return self._lists()

    def _on_points(self, *_arguments) -> None:
        """Every new fixed point gets a number, and a moving point where the present result puts it."""
        fixed, moving = self._lists()
        if self._busy or fixed is None:
            return
        self._busy = True
        try:
            for index in range(fixed.GetNumberOfControlPoints()):
                if _is_placed(fixed, index) and not self._has_partner(fixed, index, moving):
                    self._add_partner(fixed, index, moving)
                    self.end_placing()
        finally:
            self._busy = False
        self._on_changed()

    @staticmethod
    def _has_partner(fixed, index: int, moving) -> bool:
        label = fixed.GetNthControlPointLabel(index)
        return _placed(fixed)[label] == index and moving.GetControlPointIndexByLabel(label) >= 0

    def _add_partner(self, fixed, index: int, moving) -> None:
        taken = [*_placed(fixed), *_placed(moving)]
        label = str(1 + max((int(name) for name in taken if name.isdigit()), default=0))
        place, result = np.zeros(3), self._get_parameters().resultTransform
        fixed.GetNthControlPointPositionWorld(index, place)
        fixed.SetNthControlPointLabel(index, label)
        own = place if result is None else _from_world(result, place)
        moving.AddControlPoint(vtk.vtkVector3d(*own), label)

    def _on_removed(self, caller, _event) -> None:
        """No point stays whose partner has been removed."""
        fixed, moving = self._lists()
        if self._busy or fixed is None:
            return
        other = moving if caller is fixed else fixed
        self._busy = True
        try:
            for index in reversed(range(other.GetNumberOfControlPoints())):
                if _is_placed(other, index) and other.GetNthControlPointLabel(index) not in _placed(caller):
                    other.RemoveNthControlPoint(index)
        finally:
            self._busy = False
        self._on_changed()

    def _follow(self, *_arguments) -> None:
        """The moving points go where the moving volume goes."""
        parameters, moving = self._get_parameters(), self._lists()[1]
        if parameters is None or moving is None or parameters.movingVolume is None:
            return
        if moving.GetTransformNodeID() != parameters.movingVolume.GetTransformNodeID():
            moving.SetAndObserveTransformNodeID(parameters.movingVolume.GetTransformNodeID())


def _new_list(name: str, colour: tuple[float, float, float], volume):
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", slicer.mrmlScene.GenerateUniqueName(name))
    node.CreateDefaultDisplayNodes()
    display = node.GetDisplayNode()
    display.SetColor(*colour)
    display.SetSelectedColor(*colour)
    node.SetNodeReferenceID(POINTS_OF, volume.GetID())
    return node


def _is_placed(node, index: int) -> bool:
    return node.GetNthControlPointPositionStatus(index) == node.PositionDefined


def _placed(node) -> dict[str, int]:
    """Index by label of the points that have been placed; of those with the same label the first."""
    found: dict[str, int] = {}
    for index in range(node.GetNumberOfControlPoints()):
        if _is_placed(node, index):
            found.setdefault(node.GetNthControlPointLabel(index), index)
    return found


def _from_world(transform, point: np.ndarray) -> np.ndarray:
    from_world = vtk.vtkGeneralTransform()
    transform.GetTransformFromWorld(from_world)
    return np.array(from_world.TransformPoint(*point))
