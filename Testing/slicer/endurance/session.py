"""A user's long day: panels of all modules, jobs of all kinds, disturbed at random, and the books kept on it."""

from __future__ import annotations

import contextlib
import logging
import random
import re
import traceback
from collections import Counter

import numpy as np

from . import traces
from .disturbances import DISTURBANCES, PREPARATIONS
from .jobs import OTHERS, Apply, refines

PATIENCE = 120.0
SPACING, SHAPE = 2.0, (32, 36, 40)
"""Of :func:`RegNetLib.self_test.make_blob`."""
KINDS = (
    ("vtkMRMLTransformNode", "transform"),
    ("vtkMRMLSegmentationNode", "segmentation"),
    ("vtkMRMLVolumeNode", "volume"),
    ("vtkMRMLTableNode", "table"),
    ("vtkMRMLColorNode", "colours"),
    ("vtkMRMLDisplayNode", "display"),
    ("vtkMRMLScriptedModuleNode", "entry"),
)
UNEXPECTED = re.compile(r"unexpectedly: |NoneType|has no attribute|Error\b|Traceback|object is not")
"""In no sentence for the user."""


class Session:
    """Runs jobs by the panels' own buttons, one after the other.

    Args:
        seed: of everything that is drawn.
        open_module: gives a module's panel.
        process_events: the fixture.
        client: the real :class:`WorkerClient` that the panels share.
        folder: for scenes.
    """

    def __init__(self, seed: int, open_module, process_events, client, modules, models, folder) -> None:
        self.draw = random.Random(seed)
        self.client, self.folder, self.models = client, folder, list(models)
        self._process_events = process_events
        self.log, self.tracebacks = traces.Log(), client.tracebacks
        self.panels = {name: open_module(name) for name in modules}
        self.registering = [panel for panel in self.panels.values() if hasattr(panel, "correct")]
        self.is_swapped = False
        self.host_mb: list[float] = []
        self.worker_mb: list[float] = []
        self.told: list[str] = []
        """What was done, and what came of it."""

    @contextlib.contextmanager
    def recorded(self, seed: int):
        """Only our log keeps records: pytest's would keep what they refer to. What was done is printed at the end."""
        import vtk

        @vtk.calldata_type(vtk.VTK_STRING)
        def on_error(_window, _event, text: str) -> None:
            if "SubjectHierarchy" not in text:  # the host enters no nodes into it, and a loaded scene complains
                self.log.found.append(text + "".join(traceback.format_stack(limit=6)))

        root, window = logging.getLogger(), vtk.vtkOutputWindow.GetInstance()
        handlers, root.handlers = root.handlers, [self.log]
        tag = window.AddObserver("ErrorEvent", on_error)
        try:
            yield self
        finally:
            root.handlers = handlers
            window.RemoveObserver(tag)
            print(f"Seed {seed}:", *self.told, sep="\n")

    # What a user does

    def process(self) -> None:
        self._process_events(timeout=0.0)

    def wait(self, until) -> bool:
        return self._process_events(until=until, timeout=PATIENCE)

    def pause(self) -> None:
        self._process_events(timeout=self.draw.uniform(0.0, 0.2))

    def select(self, name: str):
        import slicer

        slicer.util.selectModule(name)
        self.process()
        return self.panels[name]

    def clear(self) -> None:
        import slicer

        slicer.mrmlScene.Clear(0)
        self.is_swapped = False
        self.process()

    @contextlib.contextmanager
    def new_file(self, ending: str):
        path = self.folder / f"scene{ending}"
        yield str(path)
        path.unlink()

    def pair(self) -> tuple:
        """Fixed and moving volume; made where they are missing."""
        import slicer
        from RegNetLib.self_test import make_blob

        def one(name: str, shift_mm: float):
            return slicer.mrmlScene.GetFirstNodeByName(name) or make_blob(name, shift_mm)

        both = one("A", 0.0), one("B", 3.0)
        return both[::-1] if self.is_swapped else both

    def segmentation(self, scan):
        """The inside of a blob."""
        import slicer
        from segmentations import add_segmentation

        node = slicer.mrmlScene.GetFirstNodeByName(f"inside {scan.GetName()}")
        if node is None:
            inside = slicer.util.arrayFromVolume(scan) > 50
            matrix = np.diag([SPACING, SPACING, SPACING, 1.0])
            node = add_segmentation(f"inside {scan.GetName()}", {"inside": inside}, matrix)
            node.SetReferenceImageGeometryParameterFromVolumeNode(scan)
        node.SetAndObserveTransformNodeID(scan.GetTransformNodeID())
        return node

    def any_result(self):
        """A transform that a job has left for the pair as it is, None for none."""
        import slicer
        from RegNetLib.result_nodes import FIXED, MOVING

        fixed, moving = self.pair()
        every = slicer.util.getNodesByClass("vtkMRMLTransformNode")
        own = [n for n in every if n.GetNodeReference(FIXED) is fixed and n.GetNodeReference(MOVING) is moving]
        return self.draw.choice(own) if own else None

    def count(self, kind: str) -> int:
        import slicer

        return len(slicer.util.getNodesByClass(kind))

    def world_points(self, volume) -> np.ndarray:
        """Points inside the object of a blob, in the world."""
        import slicer
        import vtk

        points = np.argwhere(slicer.util.arrayFromVolume(volume) > 50)[::37, ::-1] * SPACING
        to_world = vtk.vtkGeneralTransform()
        if volume.GetParentTransformNode() is not None:
            volume.GetParentTransformNode().GetTransformToWorld(to_world)
        return np.array([to_world.TransformPoint(point) for point in points.tolist()])

    def error_of(self, transform, parameters) -> float:
        """How far, in mm and in the mean, a result is from the known shift."""
        import slicer
        import vtk

        fixed = parameters.fixedVolume
        own = np.argwhere(slicer.util.arrayFromVolume(fixed) > 50)[::37, ::-1] * SPACING
        expected = own + [3.0 if fixed.GetName() == "A" else -3.0, 0.0, 0.0]
        from_world = vtk.vtkGeneralTransform()
        transform.GetTransformFromWorld(from_world)
        found = np.array([from_world.TransformPoint(point) for point in self.world_points(fixed).tolist()])
        return float(np.linalg.norm(found - expected, axis=1).mean())

    # One run

    def run(self, job_kind=None, wanted: str | None = None) -> None:
        """One job, with what comes before it and what disturbs it; checked."""
        for name in self.draw.sample(sorted(PREPARATIONS), self.draw.randrange(3)) if wanted is None else ():
            self.told.append(f"  {name}")
            PREPARATIONS[name](self)
            self.check_at_rest()
        job, name = self._drawn(job_kind, wanted)
        self.select(job.module)
        if not job.prepare(name):
            self._apply("RegNet" if job.module == "RegNetReview" else job.module)  # there was no result
            self.select(job.module)
            assert job.prepare(name)
        self._do(job, name)

    def _apply(self, module: str, model: str = "") -> None:
        """An undisturbed registration."""
        job = Apply(self, module)
        self.select(module)
        assert job.prepare("none", model)
        self._do(job, "none")

    def _drawn(self, kind, wanted) -> tuple:
        kind = kind or self.draw.choice((Apply, Apply, Apply, *OTHERS))
        name = wanted or self.draw.choice(("none", "none", *kind.disturbances))
        own = [one.moduleName for one in self.registering if name != "stop" or not one.MODEL or refines(one.MODEL)]
        modules = kind.modules or (own + ["RegNetReview"] * (kind.__name__ == "Judge"))
        return kind(self, self.draw.choice([one for one in modules if one in self.panels])), name

    def _do(self, job, name: str) -> None:
        self.told.append(f"{job.title()}: {name}")
        section, button, bar, label = job.widgets()
        job.expect()
        before = traces.nodes()
        assert button.isEnabledTo(job.panel.parent), button.toolTip
        button.click()
        moment = self.draw.choice((0.0, self.draw.uniform(0.0, 0.5)))
        if name not in ("none", "stop") and moment:
            self.wait(lambda: not section.is_running() or self.client.process_id() and bar.value >= 1000 * moment)
        is_done = section.is_running() and DISTURBANCES[name](self, job)
        before = before.keys() & traces.nodes().keys()  # the scene uses the identity of a removed node again
        self.told[-1] += f" at {moment:.2f}" if is_done else " (too late)"
        assert self.wait(lambda: not section.is_running() and not self.client.is_busy()), label.text
        self.process()
        self.told[-1] += f" → {label.text}"
        self._check_log()
        self.check_at_rest()
        if is_done and name == "close scene":
            assert not section.is_running() and not self.count("vtkMRMLScalarVolumeNode")
            return
        expected = job.ending(name if is_done else "none")
        assert re.search(expected, label.text), f"{label.text!r} is not {expected!r}"
        self._end_views()
        self._check_nodes(job, before, label.text)
        if name == "none":
            job.check()

    def _end_views(self) -> None:
        """Leave the views side by side that a comparison ends with."""
        button = self.panels["RegNet"].compare.ui.comparisonViewsButton if "RegNet" in self.panels else None
        if button is not None and button.checked:
            button.click()
            self.process()

    # The books

    def _check_nodes(self, job, before: set[str], text: str) -> None:
        import slicer

        expected = +job.added(text) if job.is_done(text) or "models are ready" in text else Counter()
        found: Counter[str] = Counter()
        for identity, name in traces.nodes().items():
            node = slicer.mrmlScene.GetNodeByID(identity)
            # Made with the views side by side, and kept by the application; of the deformation grid, one in a scene.
            of_view = name.startswith("vtkMRMLSlice") or name == "vtkMRMLModelNode" or not node.GetSelectable()
            of_grid = name == "vtkMRMLProceduralColorNode"
            if not (identity in before or of_view or of_grid or node.IsA("vtkMRMLStorageNode")):
                found[next((kind for base, kind in KINDS if node.IsA(base)), name)] += 1
        assert found == expected, f"nodes added: {dict(found)}, expected: {dict(expected)}"

    def check_at_rest(self) -> None:
        """What holds whenever nothing is being done."""
        import slicer
        from host import errors
        from RegNetLib.live_preview import is_previewed
        from RegNetLib.worker_client import State

        assert self.client.job is None and self.client.state in (State.IDLE, State.FAILED)
        assert not any(job.is_running() for panel in self.panels.values() for job in panel.jobs())
        assert slicer.mrmlScene.GetFirstNodeByName("Live preview") is None
        left = [node.GetName() for node in slicer.util.getNodesByClass("vtkMRMLVolumeNode") if is_previewed(node)]
        assert not left, f"still under a preview: {left}"
        for panel in self.panels.values():
            texts = [child.text for name, child in vars(panel.ui).items() if name.lower().endswith("statuslabel")]
            assert not any(UNEXPECTED.search(text) for text in texts), texts
        assert not traces.orphans(), traces.orphans()
        colours = [node.GetName() for node in slicer.util.getNodesByClass("vtkMRMLColorNode")]
        assert len(colours) == len(set(colours)), sorted(colours)
        assert len(traces.workers()) <= 1, traces.workers()
        folders = traces.private_folders()
        assert len(folders) <= 1, f"private folders: {folders}"  # one may stay for the next job
        assert not errors.slot_errors, [repr(error) for error in errors.slot_errors]

    def _check_log(self) -> None:
        assert not self.log.found, self.log.found
        assert not self.tracebacks, self.tracebacks

    def rest(self) -> dict[str, int]:
        """The same state each time: panels as when first opened, a warm worker, an empty scene. What there is then."""
        self.clear()
        for name in self.panels:  # their forms are those of the first model again
            self.select(name)
        self._apply("RegNet", self.models[0])
        self.clear()
        self._process_events(timeout=0.5)  # what is to be loaded ahead is asked for with some delay
        assert self.wait(lambda: not self.client._timer.isActive())
        self.host_mb.append(traces.memory_mb())
        self.worker_mb.append(traces.memory_mb(self.client.process_id()))
        return traces.census()
