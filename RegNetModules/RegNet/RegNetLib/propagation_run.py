"""One run of a propagation: for each target a registration, if there is need of one, and then the labels.

The run gives the worker one request after the other and takes the answers. All files lie in one private folder until
its end, so that the scan and the labels are written once and a chain of frames keeps its fields.
"""

from __future__ import annotations

import numpy as np
from slicer.i18n import tr as _

from . import conversion
from .inputs import is_flat, problem_of_pair, without_pictures, written
from .propagation_labels import SegmentLabels, partners, positions, read_labels
from .propagation_tasks import make_targets

REGISTRATION_SHARE = 0.85
"""Of a target's work, where it is registered."""
FIELD = "displacement.npy"


def listed(names: list[str], most: int = 4) -> str:
    """Names in a row, not too many of them."""
    shown, more = ", ".join(names[:most]), len(names) - most
    return shown if more <= 0 else _("{names} and {count} more").format(names=shown, count=more)


class SharedFolder:
    """The run's folder as a job sees it: the client removes a job's folder after each job, this one has to stay."""

    def __init__(self, folder) -> None:
        self.path, self.save, self.load = folder.path, folder.save, folder.load

    def remove(self) -> None:
        """Left to the run."""


class PropagationRun:
    """What is asked for next, and what has come of it.

    Args:
        parameters: the panel's parameter node.
        model: name of the model and its parameter values.
        folder: a :class:`PrivateFolder`; who made it removes it after the run.

    Raises:
        ValueError: something chosen cannot be used, with one sentence for the user.
    """

    def __init__(self, parameters, model: tuple[str, dict], folder) -> None:
        self.folder, self._model = folder, model
        self._options = {
            "align": parameters.alignment.value,
            "refine": parameters.refine_option(),
            "device": parameters.device.value,
            "seed": parameters.seed,
        }
        self._interpolation = parameters.interpolation.value
        self.targets = make_targets(parameters)
        self._check_pairs(parameters)
        self._labels = read_labels(parameters.segmentation, parameters.chosen_segments(), self.targets.drawn_on())
        self._check_place(parameters)
        self._ndim = 2 if is_flat(self.targets.drawn_on()) else 3
        self._sent = {"labels": self._written_labels("segments", self._labels, self.targets.labels_matrix())}
        self._scans: dict[str, dict] = {}
        self._found: dict[int, dict] = {}
        self._registration: dict | None = None
        self._waiting = list(self.targets.order)
        self._count = len(self._waiting)
        self._carrying = False
        self._warned: dict[str, list[str]] = {}

    def target(self) -> int:
        """Number of the target that is worked on."""
        return self._waiting[0]

    def title(self) -> str:
        """What the target is called where there are several."""
        if self._count == 1:
            return ""
        done = self._count - len(self._waiting)
        text = _("{number} of {count}, {name}")
        return text.format(number=done + 1, count=self._count, name=self.targets.title(self.target()))

    def is_done(self) -> bool:
        return not self._waiting

    def fraction(self, part: float) -> float:
        """How much of all the work is done, ``part`` of the present request among it."""
        if not self._carrying:
            part *= REGISTRATION_SHARE
        elif self._registration is not None:
            part = REGISTRATION_SHARE + (1.0 - REGISTRATION_SHARE) * part
        return (self._count - len(self._waiting) + part) / self._count

    def next_request(self) -> dict:
        """What to ask of the worker now.

        Raises:
            ValueError: the target is gone or cannot be used, with one sentence for the user.
        """
        gone = self.targets.gone() or self.targets.gone_target(self.target())
        if gone:
            raise ValueError(f"{gone}.")
        pair = None if self._carrying else self.targets.pair(self.target())
        if pair is not None:
            return self._register(*pair)
        self._carrying = True
        return self._carry()

    def take(self, result: dict) -> None:
        """Take over an answer of the worker; the last one of a target makes its result."""
        n = self.target()
        if not self._carrying:
            self._found[n] = {"affine": result["affine"], "displacement": self._kept_field(result, n)}
            self._registration, self._carrying = result.get("report", {}), True
            return
        gone = self.targets.gone() or self.targets.gone_target(n)
        if gone:
            raise ValueError(gone)
        array = self.folder.load(result["labels"]["file"])
        report = {**result.get("report", {}), "registration": self._registration}
        self.targets.keep(n, array.reshape(-1, *array.shape[-3:]), self._labels.entries, report)
        for text in [*(self._registration or {}).get("warnings", []), *report.get("warnings", [])]:
            titles = self._warned.setdefault(text, [])
            titles += [] if self.targets.title(n) in titles else [self.targets.title(n)]
        self.skip()

    def warnings(self, most: int = 8) -> list[str]:
        """The warnings so far, each once, with the targets that it is about where there are several."""
        lines = [
            f"{listed(titles)}: {text}" if self._count > 1 else text
            for text, titles in list(self._warned.items())[:most]
        ]
        more = len(self._warned) - most
        return [*lines, _("{count} more warnings; the table has them.").format(count=more)] if more > 0 else lines

    def skip(self) -> None:
        """Go on to the next target."""
        self._waiting.pop(0)
        self._carrying, self._registration = False, None

    def _check_pairs(self, parameters) -> None:
        scan = self.targets.drawn_on()
        for n in self.targets.order:
            target = self.targets.volume(n)
            problem = problem_of_pair(target, scan) if target is not scan and not parameters.uses_transform() else ""
            if problem:
                prefix = f"{self.targets.title(n)}: " if parameters.is_along_sequence() else ""
                raise ValueError(prefix + problem)

    def _check_place(self, parameters) -> None:
        """The segmentation has to be one of the scan."""
        scan, drawn = self.targets.drawn_on(), self.targets.drawn_matrix()
        index = np.linalg.inv(conversion.own_place(scan)) @ drawn
        points = positions(self._labels) @ index[:3, :3].T + index[:3, 3]
        size = np.array(scan.GetImageData().GetDimensions())
        if not ((points >= -0.5) & (points <= size - 0.5)).all(axis=1).any():
            text = _("Segmentation “{name}” lies wholly outside its scan; choose the one that it was drawn on.")
            raise ValueError(text.format(name=parameters.segmentation.GetName()))

    def _written_labels(self, name: str, labels: SegmentLabels, matrix: np.ndarray) -> dict:
        return {
            "file": self.folder.save(name, labels.array),
            "index_to_world": (matrix @ labels.index_to_world).tolist(),
            "ndim": self._ndim,
        }

    def _write(self, image: conversion.ImageArray, name: str) -> dict:
        return {**written(image, name, self.folder), "ndim": self._ndim}

    def _register(self, fixed: conversion.ImageArray, moving) -> dict:
        name, values = self._model
        key, make = moving
        if key not in self._scans:
            self._scans = {key: self._write(make(), "scan")}  # a chain needs another one each time: the last is enough
        return {
            "command": "register",
            "fixed": self._write(fixed, "target"),
            "moving": self._scans[key],
            "model": name,
            "parameters": {**values, **without_pictures(name)},
            **self._options,
        }

    def _carry(self) -> dict:
        n = self.target()
        place, steps = self.targets.way(n, self._found, self._write)
        entries = [entry.described() for entry in self._labels.entries]
        size = self.targets.volume(n).GetImageData().GetDimensions()
        request = {
            "command": "propagate",
            **self._sent,
            "target": {"shape": list(size[::-1]), "index_to_world": place.tolist(), "ndim": self._ndim},
            "transforms": steps,
            "segments": entries,
            "interpolation": self._interpolation,
        }
        reference, drawn = self.targets.reference(n)
        if reference is None:
            return request
        labels = read_labels(reference, partners(self._labels, reference), self.targets.volume(n))
        onto = place @ np.linalg.inv(conversion.own_place(self.targets.volume(n))) @ drawn
        return {
            **request,
            "reference": self._written_labels("reference", labels, onto),
            "reference_segments": [entry.described() for entry in labels.entries],
        }

    def _kept_field(self, result: dict, n: int) -> dict | None:
        """Put the field of a registration where the next one does not overwrite it."""
        sent = result.get("displacement")
        if not sent:
            return None
        name = f"field{n}.npy"
        (self.folder.path / sent["file"]).replace(self.folder.path / name)
        return {"file": name, "index_to_world": sent["index_to_world"], "ndim": sent.get("ndim", 3)}
