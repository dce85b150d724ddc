"""The kinds of job that a user can start, how each may end, and which nodes it then leaves."""

from __future__ import annotations

import re
from collections import Counter

import numpy as np

STEPS = 2
ENDLESS = 1000
"""Steps of a refinement that ends by itself, and of one that is stopped."""
CANCELLED, KILLED, GONE = r"Cancelled", r"stopped unexpectedly", r"removed meanwhile"


class Job:
    """One kind of job in one panel.

    ``done`` is what the panel says of a good end; ``endings`` what it may say where the job was disturbed.
    """

    done = r"^Done"
    modules: tuple[str, ...] = ()
    disturbances: tuple[str, ...] = ()
    endings = {"cancel": CANCELLED, "kill": KILLED, "delete fixed": GONE, "delete moving": GONE}

    def __init__(self, session, module: str) -> None:
        self.session, self.module, self.panel = session, module, session.panels[module]

    def title(self) -> str:
        return f"{type(self).__name__} in {self.module}"

    def prepare(self, disturbance: str) -> bool:
        """Set the panel up; whether the job can be started."""
        raise NotImplementedError

    def widgets(self) -> tuple:
        """The section, its button, its progress bar and its line of text."""
        raise NotImplementedError

    def expect(self) -> None:
        """Note before the start which nodes the job will add."""

    def added(self, text: str) -> Counter:
        """Kinds of the nodes that it has added, given how it says that it ended."""
        raise NotImplementedError

    def check(self) -> None:
        """Whether the result of an undisturbed job is right."""

    def is_done(self, text: str) -> bool:
        return re.search(self.done, text) is not None

    def ending(self, disturbance: str) -> str:
        """What the panel may say in the end."""
        expected = self.endings.get(disturbance, self.done)
        return f"{expected}|{self.done}" if disturbance == "kill" else expected

    def choose_pair(self) -> None:
        self.panel.parameters.fixedVolume, self.panel.parameters.movingVolume = self.session.pair()

    def watch_fused(self, is_made: bool) -> int:
        """How many volumes a fusion adds: none where the pair has one already."""
        from RegNetLib.fused_volume import _of_pair

        parameters = self.panel.parameters
        return int(is_made and _of_pair(parameters, parameters.fixedVolume, parameters.movingVolume) is None)


class Apply(Job):
    """A registration: the more frequent one."""

    disturbances = (
        "cancel", "stop", "close scene", "delete fixed", "delete moving", "delete result", "delete parent", "kill",
        "switch", "save",
    )  # fmt: skip

    def prepare(self, disturbance: str, model: str = "") -> bool:
        from regnet.models import get_info

        self.choose_pair()
        session, ui = self.session, self.panel.ui
        if self.module == "RegNet":
            offered = [name for name in session.models if disturbance != "stop" or refines(name)]
            ui.modelComboBox.currentText = get_info(model or session.draw.choice(offered)).title
        self.model = self.panel.parameters.model
        endless = disturbance in ("stop", "cancel") or session.draw.random() < 0.5
        self.endless = endless and disturbance in ("stop", "cancel", "kill", "close scene")
        ui.refinementComboBox.currentText = "Number of steps"
        ui.refineStepsSpinBox.value = ENDLESS if self.endless else STEPS
        if not ui.applyButton.enabled:  # the last result places what is the fixed volume now
            self.panel.parameters.resultTransform = None
        return ui.applyButton.enabled

    def title(self) -> str:
        return f"{super().title()} with {self.model}, {self.panel.ui.refineStepsSpinBox.value} steps"

    def widgets(self) -> tuple:
        return self.panel.run, self.panel.ui.applyButton, self.panel.ui.progressBar, self.panel.ui.statusLabel

    def expect(self) -> None:
        from regnet.models import get_info

        parameters = self.panel.parameters
        self.volumes = self.watch_fused(get_info(self.model).fuses)
        self.volumes += int(parameters.createVolume and parameters.outputVolume is None)

    def added(self, text: str) -> Counter:
        return Counter(transform=1, entry=1, volume=self.volumes, display=1 + self.volumes)

    def check(self) -> None:
        error = self.session.error_of(self.panel.parameters.resultTransform, self.panel.parameters)
        assert error < 1.0, f"the result is {error:.2f} mm off"


class Judge(Job):
    done = r"^$"
    disturbances = ("cancel", "close scene", "delete fixed", "delete moving", "delete result", "kill", "switch")
    endings = {**Job.endings, "delete result": GONE}

    def prepare(self, disturbance: str) -> bool:
        if self.module == "RegNetReview":
            self.choose_pair()
            self.panel.parameters.resultTransform = self.session.any_result()
        return self.panel.ui.judgeButton.enabled

    def widgets(self) -> tuple:
        ui = self.panel.ui
        return self.panel.judge, ui.judgeButton, ui.judgeProgressBar, ui.judgeStatusLabel

    def expect(self) -> None:
        from RegNetLib.judge_nodes import judged_nodes

        self.transform = self.panel.parameters.resultTransform
        self.known = judged_nodes(self.transform)
        self.colours = self.session.count("vtkMRMLColorTableNode")

    def added(self, text: str) -> Counter:
        from RegNetLib.judge_nodes import judged_nodes

        new = [kind for kind in judged_nodes(self.transform) if kind not in self.known]
        volumes = len([kind for kind in new if kind != "table"])
        colours = self.session.count("vtkMRMLColorTableNode") - self.colours
        assert "table" in [*new, *self.known] and colours <= 2
        return Counter(volume=volumes, display=volumes, table=len(new) - volumes, colours=colours)

    def check(self) -> None:
        from RegNetLib.judge_state import last_judgement

        judgement = last_judgement(self.panel.judge._subject)
        assert judgement is not None and judgement["verdict"] in ("green", "amber", "red", "unknown")


class Correct(Job):
    done = r"^Corrected"
    disturbances = ("cancel", "close scene", "delete fixed", "delete moving", "delete result", "kill", "switch")
    endings = {**Job.endings, "delete result": GONE}

    def prepare(self, disturbance: str) -> bool:
        import vtk

        panel, parameters = self.panel, self.panel.parameters
        if not panel.ui.addPairButton.enabled:
            return False
        if not panel.correct.points.pairs():
            panel.ui.addPairButton.click()
            place = self.session.world_points(parameters.fixedVolume)[200]
            parameters.correctFixedPoints.AddControlPointWorld(vtk.vtkVector3d(*place), "F")
            self.session.process()
        points = parameters.correctMovingPoints
        goal = np.array(points.GetNthControlPointPosition(0)) + self.session.draw.uniform(0.2, 0.6)
        points.SetNthControlPointPosition(0, goal)
        panel.ui.correctReachSpinBox.value = 12.0
        self.session.process()
        return panel.ui.correctButton.enabled

    def widgets(self) -> tuple:
        ui = self.panel.ui
        return self.panel.correct, ui.correctButton, ui.correctProgressBar, ui.correctStatusLabel

    def added(self, text: str) -> Counter:
        return Counter(transform=1, entry=1, display=1)


class Fuse(Job):
    done = r"^Fused"
    disturbances = ("cancel", "close scene", "delete fixed", "delete moving", "kill", "switch")

    def prepare(self, disturbance: str) -> bool:
        self.choose_pair()
        return self.panel.ui.fuseButton.enabled

    def widgets(self) -> tuple:
        ui = self.panel.ui
        return self.panel.fuse, ui.fuseButton, ui.fuseProgressBar, ui.fuseStatusLabel

    def expect(self) -> None:
        self.volumes = self.watch_fused(True)

    def added(self, text: str) -> Counter:
        return Counter(volume=self.volumes, display=self.volumes)


class Compare(Job):
    done = r"^\d of 2 models are ready"
    modules = ("RegNet",)
    disturbances = ("cancel", "close scene", "delete fixed", "delete moving", "kill", "switch")
    endings = {**Job.endings, "cancel": r"^Cancelled\. \d of 2 models", "kill": r"^[12] of 2 models"}

    def prepare(self, disturbance: str) -> bool:
        import qt

        self.choose_pair()
        ui, shown = self.panel.compare.ui, self.panel.compare.ui.comparedModelList
        self.panel.ui.refinementComboBox.currentText = "Number of steps"
        self.panel.ui.refineStepsSpinBox.value = STEPS
        chosen = self.session.draw.sample(range(shown.count), 2)
        for n in range(shown.count):
            shown.item(n).setCheckState(qt.Qt.Checked if n in chosen else qt.Qt.Unchecked)
        return ui.compareButton.enabled

    def widgets(self) -> tuple:
        ui = self.panel.compare.ui
        return self.panel.compare, ui.compareButton, ui.compareProgressBar, ui.compareStatusLabel

    def expect(self) -> None:
        self.tables = self.session.count("vtkMRMLTableNode")

    def is_done(self, text: str) -> bool:
        return "models are ready" in text

    def added(self, text: str) -> Counter:
        ready = int(re.search(r"(\d) of 2", text)[1])
        tables = self.session.count("vtkMRMLTableNode") - self.tables
        assert tables in (0, 1)
        return Counter(transform=ready, entry=ready, display=ready, table=tables)

    def check(self) -> None:
        assert self.panel.compare.ui.compareStatusLabel.text == "2 of 2 models are ready."


class Propagate(Job):
    modules = ("RegNetPropagation",)
    disturbances = ("cancel", "close scene", "delete fixed", "delete moving", "delete segmentation", "kill", "switch")
    endings = {**Job.endings, "delete segmentation": GONE}

    def prepare(self, disturbance: str) -> bool:
        from regnet.models import get_info

        parameters, (target, scan) = self.panel.parameters, self.session.pair()
        parameters.scan, parameters.segmentation = scan, self.session.segmentation(scan)
        parameters.set_targets([target])
        self.panel.ui.modelComboBox.currentText = get_info(self.session.draw.choice(self.session.models)).title
        self.panel.ui.refinementComboBox.currentText = "Number of steps"
        self.panel.ui.refineStepsSpinBox.value = STEPS
        return self.panel.ui.applyButton.enabled

    def widgets(self) -> tuple:
        return self.panel.run, self.panel.ui.applyButton, self.panel.ui.progressBar, self.panel.ui.statusLabel

    def expect(self) -> None:
        from RegNetLib.propagation_nodes import earlier_result

        parameters = self.panel.parameters
        self.new = int(earlier_result(parameters.segmentation, parameters.targets()[0]) is None)

    def added(self, text: str) -> Counter:
        return Counter(segmentation=self.new, display=self.new)


def refines(model: str) -> bool:
    """Whether a registration with that model can be stopped early."""
    from regnet.models import get_info

    return get_info(model).transform_kind != "linear"


OTHERS = (Judge, Correct, Fuse, Compare, Propagate)
