"""One comparison: the same pair registered with several models, one after the other."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import slicer
from regnet.models import get_info
from slicer.i18n import tr as _

from .history import MASKS, PLAIN, add_entry, settings_of
from .inputs import build_request, placing_parent, without_pictures
from .result_import import ResultImporter

MOST_POINTS = 200_000
"""Of a displacement field, where the farthest motion is looked for."""


@dataclass(frozen=True)
class Compared:
    """What one model reached; numbers are None where they are not known. ``entry`` is the history's node, None if the
    model failed, and ``verdict`` says why it did; that of a result comes when it is judged."""

    title: str
    seconds: float | None = None
    before: float | None = None
    after: float | None = None
    folds: float | None = None
    farthest: float | None = None
    verdict: str = ""
    entry: object = None


class ComparedPair:
    """Stands for the panel's parameter node while models are compared: the pair and the settings that it had when that
    began, and no outputs, so that nothing of the panel or of the moving volume is changed."""

    createVolume = applyToMoving = False
    outputVolume = syntheticVolume = fusedVolume = resultTransform = None

    def __init__(self, parameters) -> None:
        names = ("fixedVolume", "movingVolume", *MASKS)
        nodes = {name: getattr(parameters, name) for name in names}
        self._kept = {name: (node.GetID(), node.GetName()) for name, node in nodes.items() if node is not None}
        for name in ("alignment", "refinement", "device", *PLAIN):
            setattr(self, name, getattr(parameters, name))
        self._refine = parameters.refine_option()
        self.model = ""

    fixedVolume = property(lambda self: self._node("fixedVolume"))
    movingVolume = property(lambda self: self._node("movingVolume"))
    fixedMask = property(lambda self: self._node("fixedMask"))
    movingMask = property(lambda self: self._node("movingMask"))
    region = property(lambda self: self._node("region"))

    def refine_option(self) -> str | int:
        return self._refine

    def with_model(self, name: str) -> ComparedPair:
        other = copy.copy(self)
        other.model, other.resultTransform = name, None
        return other

    def what_is_gone(self) -> str:
        """What was removed since, as a sentence; empty if nothing was."""
        for identity, name in self._kept.values():
            if slicer.mrmlScene.GetNodeByID(identity) is None:
                return _("“{name}” was removed meanwhile.").format(name=name)
        return ""

    def _node(self, name: str):
        return slicer.mrmlScene.GetNodeByID(self._kept[name][0]) if name in self._kept else None


class ComparisonRun:
    """What is asked for next, and what has come of it.

    Args:
        parameters: the panel's parameter node.
        models: names of the models, and the values of their parameters.
    """

    def __init__(self, parameters, models: list[tuple[str, dict]]) -> None:
        self.pair = ComparedPair(parameters)
        self.rows: list[Compared] = []
        self._waiting = list(models)
        self.count = len(models)
        self._importer = self._asked = self._sent = None

    def is_done(self) -> bool:
        return not self._waiting

    def title(self) -> str:
        """What is being worked on."""
        name = get_info(self._waiting[0][0]).title
        return _("{number} of {count}, {model}").format(number=len(self.rows) + 1, count=self.count, model=name)

    def fraction(self, part: float) -> float:
        """How much of all the work is done, ``part`` of the present model's among it."""
        return (len(self.rows) + part) / self.count

    def next_request(self, folder, images) -> dict:
        """The present model's run, see :func:`build_request`."""
        name, values = self._waiting[0]
        values = {**values, **without_pictures(name)}
        self._asked = self.pair.with_model(name)
        self._importer = ResultImporter(self._asked, placing_parent(self._asked.movingVolume), get_info(name).title)
        self._sent = build_request(self._asked, values, folder, images)
        return self._sent

    def take(self, result: dict, folder) -> None:
        """Make a transform node and an entry of the history of the worker's answer.

        Raises:
            ValueError: the inputs are gone, with one sentence for the user.
        """
        name, values = self._waiting[0]
        fixed = {**self._sent["fixed"], "file": str(Path(self._sent["kept_folder"]) / self._sent["fixed"]["file"])}
        farthest = farthest_motion(result, fixed, folder)
        transform = self._importer.load(result, folder)
        entry = add_entry(transform, settings_of(self._asked, name, values))
        report = result.get("report", {})
        self._end(
            Compared(
                get_info(name).title,
                entry.seconds,
                report.get("similarity_before"),
                report.get("similarity_after"),
                report.get("folding_percent"),
                farthest,
                entry=entry.node,
            )
        )

    def fail(self, reason: str) -> None:
        """The present model gives no result."""
        title = get_info(self._waiting[0][0]).title
        self._end(Compared(title, verdict=_("Failed: {reason}").format(reason=reason)))

    def _end(self, row: Compared) -> None:
        self.rows.append(row)
        self._waiting.pop(0)


def farthest_motion(result: dict, fixed: dict, folder) -> float:
    """How far the worker's transform moves a point of the fixed volume at most, in mm.

    Args:
        result: the worker's answer.
        fixed: the fixed image, as it was described to the worker; its file in ``folder``, or with its whole path.
    """
    field = result.get("displacement")
    if field:
        array = folder.load(field["file"])
        stride = max(1, int(np.ceil((array[..., 0].size / MOST_POINTS) ** (1 / 3))))
        moved = array[::stride, ::stride, ::stride].astype(float)
        index = stride * np.stack(np.indices(moved.shape[:3])[::-1], axis=-1)
        place = np.array(field["index_to_world"])
    else:  # no point of a box is moved farther than its farthest corner
        ends = np.array(np.load(folder.path / fixed["file"], mmap_mode="r").shape[::-1]) - 1
        index, moved = np.stack(np.meshgrid(*([0, n] for n in ends), indexing="ij"), axis=-1), 0.0
        place = np.array(fixed["index_to_world"])
    points = index @ place[:3, :3].T + place[:3, 3]
    affine = np.array(result["affine"])
    return float(np.linalg.norm((points + moved) @ affine[:3, :3].T + affine[:3, 3] - points, axis=-1).max())
