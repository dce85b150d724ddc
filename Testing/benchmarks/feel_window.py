"""What ``feel.py`` measures in the window's process: panels on the tests' stand-in for Slicer, and a worker.

    python Testing/benchmarks/feel_window.py runs|cold|actions SIZE

Prints one line of JSON. ``runs`` clicks Apply on a real worker that is warm, ``cold`` as soon as the panel is there;
``actions`` uses the panel with a pair and a result that the tests' stand-in for the worker made.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
TESTS, MODULES = ROOT / "Testing" / "slicer", ROOT / "RegNetModules"
FOLDERS = [str(folder) for folder in sorted(MODULES.iterdir()) if (folder / f"{folder.name}.py").is_file()]
sys.path[:0] = [str(TESTS), *FOLDERS]

import host  # noqa: E402

APPLICATION = host.install()

import slicer  # noqa: E402
from host.pictures import render_to_array  # noqa: E402
from RegNetLib import worker_client  # noqa: E402
from RegNetLib.live_preview import LivePreview  # noqa: E402
from RegNetLib.worker_process import WorkerProcess  # noqa: E402

MODULE, OTHER = "RegNetAVSM", "RegNet"
PATIENCE = 120.0
VIEWS = ("Red", "Yellow", "Green")


def turn(until: Callable[[], bool], patience: float = PATIENCE) -> float:
    """Let the window live until the condition holds; gives the longest time that it was not."""
    limit, longest = time.perf_counter() + patience, 0.0
    while not until():
        started = time.perf_counter()
        if started > limit:
            raise TimeoutError("what was waited for did not happen")
        slicer.app.processEvents()
        longest = max(longest, time.perf_counter() - started)
        time.sleep(0.001)
    return longest


def idle(seconds: float) -> float:
    end = time.perf_counter() + seconds
    return turn(lambda: time.perf_counter() > end)


def open_panel(name: str):
    APPLICATION.moduleManager().load_scripted(name, MODULES / name / f"{name}.py")
    slicer.util.selectModule(name)
    return slicer.util.getModuleWidget(name)


def pair(size: int) -> tuple:
    """Two scans of one body, int16, the second bent, and 25 mm and 6 degrees off."""
    generator = np.random.default_rng(0)
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, size, dtype=np.float32),) * 3, indexing="ij")

    def scan(bend: float) -> np.ndarray:
        u, v = x + bend * np.sin(4 * y), y + bend * np.cos(3 * z)
        inside = (u / 0.7) ** 2 + (v / 0.8) ** 2 + (z / 0.75) ** 2 < 1
        image = inside * (1 + 0.4 * np.sin(9 * u + 2) * np.cos(7 * v) * np.cos(5 * z + u))
        return (600 * image + generator.normal(scale=15, size=image.shape)).astype(np.int16)

    steps, angle = (np.array([0.9, 0.95, 1.0]) * 256 / size), np.deg2rad(6.0)
    place, off = np.eye(4), np.eye(4)
    place[:3, :3], place[:3, 3] = np.diag(steps), -steps * (size - 1) / 2
    off[:2, :2], off[0, 3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]], 25.0
    matrices = [slicer.util.vtkMatrixFromArray(one) for one in (place, off @ place)]
    return tuple(
        slicer.util.addVolumeFromArray(scan(bend), ijkToRAS=matrix, name=name)
        for bend, matrix, name in zip((0.0, 0.03), matrices, ("patient", "atlas"), strict=True)
    )


class Watch:
    """Notes when the first preview of a run was on the volume, and what the window's process wrote."""

    def __init__(self) -> None:
        self.first: float | None = None
        self.written = 0
        show, save = LivePreview.show, np.save

        def watched(preview, *arguments) -> bool:
            shown = show(preview, *arguments)
            if shown and self.first is None:
                self.first = time.perf_counter()
            return shown

        def saved(*arguments, **options) -> None:
            self.written += 1
            save(*arguments, **options)

        LivePreview.show, np.save = watched, saved

    def click(self, panel) -> dict:
        """Press Apply, wait for the first preview, and cancel."""
        self.first, self.written = None, 0
        started = time.perf_counter()
        panel.ui.applyButton.click()
        handler = time.perf_counter() - started
        longest = turn(lambda: self.first is not None or not panel.client.is_busy())
        if self.first is None:
            raise RuntimeError(f"no preview: {panel.ui.statusLabel.text}")
        found = {"handler": handler, "preview": self.first - started, "blocked": longest, "files": self.written}
        panel.ui.applyButton.click()
        turn(lambda: not panel.client.is_busy())
        return found


def choose(panel, volumes) -> None:
    panel.ui.fixedSelector.setCurrentNode(volumes[0])
    panel.ui.movingSelector.setCurrentNode(volumes[1])


def runs(size: int) -> dict:
    volumes, watch = pair(size), Watch()
    started = time.perf_counter()
    panel = open_panel(MODULE)
    opened = time.perf_counter() - started
    found = {"open": opened, **_warm(panel, started)}
    choose(panel, volumes)
    found["chosen blocked"] = idle(1.0)
    found["first"] = watch.click(panel)
    found["second"] = [watch.click(panel) for _ in range(3)][-1]
    slicer.util.arrayFromVolume(volumes[1])[0, 0, 0] += 1
    slicer.util.arrayFromVolumeModified(volumes[1])
    found["changed"] = watch.click(panel)
    process = panel.client.process_id()
    panel.client.stop()
    found["restarted"] = watch.click(panel)
    assert panel.client.process_id() != process
    panel.client.stop()
    return found


def _warm(panel, started: float) -> dict:
    """Until the worker has nothing left to load; {} where panels start none."""
    if not hasattr(panel.client, "is_warm"):
        return {}
    ready = []

    def is_warm() -> bool:
        if panel.client.process_id() and not ready:
            ready.append(time.perf_counter() - started)
        return panel.client.is_warm()

    slicer.app.pauseRender()
    longest = turn(is_warm)
    slicer.app.resumeRender()
    return {"worker started": ready[0], "warm": time.perf_counter() - started, "warm blocked": longest}


def cold(size: int) -> dict:
    volumes, watch = pair(size), Watch()
    panel = open_panel(MODULE)
    choose(panel, volumes)
    return watch.click(panel)


def actions(size: int, repeat: int = 5) -> dict:
    command = [sys.executable, str(TESTS / "fake_worker.py"), "shift"]
    worker_client._shared = worker_client.WorkerClient(lambda: WorkerProcess(command))
    fixed, moving = pair(size)
    panel = open_panel(MODULE)
    for name in VIEWS:
        slicer.app.layoutManager().sliceWidget(name)._native._set_size((500, 500))
    times: dict[str, list] = {}

    def act(name: str, work: Callable[[], object]) -> None:
        slicer.app.pauseRender()
        started = time.perf_counter()
        work()
        slicer.app.processEvents()
        done = time.perf_counter()
        slicer.app.resumeRender()
        for view in VIEWS:
            render_to_array(slicer.app.layoutManager().sliceWidget(view).sliceView().renderWindow())
        times.setdefault(name, []).append((done - started, time.perf_counter() - done))

    open_panel(OTHER)  # its first time is the module's own, and startup.py's
    slicer.util.selectModule(MODULE)
    ui = panel.ui
    for number in range(repeat):
        act("choose no volume", lambda: (ui.fixedSelector.setCurrentNode(None), ui.movingSelector.setCurrentNode(None)))
        act("choose the fixed volume", lambda: ui.fixedSelector.setCurrentNode(fixed))
        act("choose the moving volume", lambda: ui.movingSelector.setCurrentNode(moving))
        act("show the pair", ui.showPairButton.click)
        act("swap", ui.swapButton.click)
        act("swap", ui.swapButton.click)
        _use(act, panel, number)
        ui.applyButton.click()
        turn(lambda: not panel.client.is_busy())
        idle(0.2)
        act("after", ui.afterCheckBox.click)
        act("after", ui.afterCheckBox.click)
        _look(act, panel)
        act("deformation grid", ui.gridCheckBox.click)
        act("deformation grid", ui.gridCheckBox.click)
        ui.judgeButton.click()
        turn(lambda: not panel.client.is_busy())
        idle(0.2)
        act("a map of the judgement", lambda: setattr(ui.mapComboBox, "currentIndex", 1))
        act("no map", lambda: setattr(ui.mapComboBox, "currentIndex", 0))
        act("table of the judgement", ui.showTableButton.click)
        act("to the largest motion", ui.jumpMovedButton.click)
        act("choose the result in the history", lambda: panel.history.ui.historyList.setCurrentRow(0))
        act("take the result up again", panel.history.ui.useButton.click)
        act("settings of the result", panel.history.ui.settingsButton.click)
        act("open another panel", lambda: open_panel(OTHER))
        act("come back to the panel", lambda: slicer.util.selectModule(MODULE))
        slicer.app.layoutManager().setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView)
    slicer.mrmlScene.Clear(0)
    return times


def _use(act, panel, number: int) -> None:
    """What is set before a run."""
    ui = panel.ui
    act("choose an alignment", lambda: setattr(ui.alignmentComboBox, "currentIndex", number % 2))
    act("choose a refinement", lambda: setattr(ui.refinementComboBox, "currentIndex", number % 3))
    act("change a parameter", lambda: setattr(panel.form._fields["iterations"]._widget, "value", 20 + number))
    for child in vars(ui).values():
        if child.__class__.__name__ == "ctkCollapsibleButton" and child.visible:
            act("fold or unfold a section", lambda section=child: setattr(section, "collapsed", not section.collapsed))


def _look(act, panel) -> None:
    """The ways of looking at a pair."""
    ui = panel.ui
    for mode in ("flicker", "checkerboard", "difference", "edges", "reveal", "fade"):
        button = getattr(ui, f"{mode}Button", None)
        if button is not None:
            act(mode, button.click)
    for value in (0.3, 0.7):
        act("move the fade slider", lambda chosen=value: setattr(ui.fadeSlider, "value", chosen))
    act("link the views", ui.linkCheckBox.click)
    act("link the views", ui.linkCheckBox.click)


def main() -> None:
    measure = {"runs": runs, "cold": cold, "actions": actions}[sys.argv[1]]
    found = measure(int(sys.argv[2]))
    slicer.util.moduleSelector().leave()
    worker_client.stop_shared_client()
    print("\n" + json.dumps(found))


if __name__ == "__main__":
    main()
