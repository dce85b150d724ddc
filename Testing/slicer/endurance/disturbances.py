"""What a user, or the system, may do to a job that is running, and to the scene between two jobs."""

from __future__ import annotations

import contextlib
import os
import signal

import numpy as np

DISTURBANCES: dict = {}
"""Name -> function of (session, job); what it gives says whether it was done."""
PREPARATIONS: dict = {}
"""Name -> function of (session)."""


def disturbance(function):
    DISTURBANCES[function.__name__.replace("_", " ")] = function
    return function


def preparation(function):
    PREPARATIONS[function.__name__.replace("_", " ")] = function
    return function


@disturbance
def none(session, job) -> bool:
    return True


@disturbance
def cancel(session, job) -> bool:
    _section, button, _bar, _label = job.widgets()
    assert button.text.startswith("Cancel") and button.isEnabledTo(job.panel.parent), (button.text, button.toolTip)
    button.click()
    return True


@disturbance
def stop(session, job) -> bool:
    button = job.panel.ui.stopButton
    if not session.wait(lambda: button.enabled or not job.panel.run.is_running()) or not button.enabled:
        return False
    session.pause()
    button.click()
    return True


@disturbance
def close_scene(session, job) -> bool:
    session.clear()
    return True


def _delete(session, node) -> bool:
    import slicer

    if node is not None:
        slicer.mrmlScene.RemoveNode(node)
    return node is not None


@disturbance
def delete_fixed(session, job) -> bool:
    return _delete(session, session.pair()[0])


@disturbance
def delete_moving(session, job) -> bool:
    return _delete(session, session.pair()[1])


@disturbance
def delete_result(session, job) -> bool:
    return _delete(session, job.panel.parameters.resultTransform)


@disturbance
def delete_segmentation(session, job) -> bool:
    return _delete(session, job.panel.parameters.segmentation)


@disturbance
def delete_parent(session, job) -> bool:
    """What placed the moving volume before the run; or moves it, which is as bad."""
    import slicer

    node = slicer.mrmlScene.GetFirstNodeByName("table")
    if node is not None and session.draw.random() < 0.5:
        node.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(np.diag([1.0, 1.0, -1.0, 1.0])))
        return True
    return _delete(session, node)


@disturbance
def kill(session, job) -> bool:
    process_id = session.client.process_id()
    if not process_id:
        return False
    with contextlib.suppress(ProcessLookupError):
        os.kill(process_id, getattr(signal, "SIGKILL", signal.SIGTERM))
    return True


@disturbance
def switch(session, job) -> bool:
    """Look at other modules; nothing else can be started there."""
    for name in session.draw.sample([name for name in session.panels if name != job.module], 2):
        panel = session.select(name)
        session.pause()
        if job.widgets()[0].is_running():
            buttons = [getattr(panel.ui, one) for one in ("applyButton", "judgeButton") if hasattr(panel.ui, one)]
            assert not any(button.isEnabledTo(panel.parent) for button in buttons)
    session.select(job.module)
    return True


@disturbance
def save(session, job) -> bool:
    import slicer

    with session.new_file(".mrb") as path:
        assert slicer.util.saveScene(path)
    return True


@preparation
def swap(session) -> None:
    session.is_swapped = not session.is_swapped
    panel = session.select(session.draw.choice(session.registering).moduleName)
    if panel.ui.swapButton.enabled:
        panel.ui.swapButton.click()


@preparation
def reload(session) -> None:
    import slicer

    with session.new_file(".mrb") as path:
        assert slicer.util.saveScene(path)
        session.clear()
        slicer.util.loadScene(path)
        session.process()


@preparation
def fresh(session) -> None:
    session.clear()


@preparation
def place(session) -> None:
    """One of the two volumes, with what lies on it, on a table that was moved."""
    import slicer
    from volumes import add_linear, rigid

    node = slicer.mrmlScene.GetFirstNodeByName("table")
    if node is None:
        node = add_linear("table", rigid((3, -2, 2), (6, -4, 5)))
    session.draw.choice(session.pair()).SetAndObserveTransformNodeID(node.GetID())


@preparation
def toggle(session) -> None:
    panel = session.select(session.draw.choice(session.registering).moduleName)
    names = ("livePreviewCheckBox", "applyCheckBox", "createVolumeCheckBox", "gridCheckBox", "afterCheckBox")
    box = getattr(panel.ui, session.draw.choice(names))
    if box.enabled:
        box.click()


@preparation
def look(session) -> None:
    panel = session.select(session.draw.choice(session.registering).moduleName)
    name = session.draw.choice(("fade", "flicker", "checkerboard", "difference", "edges", "reveal"))
    if panel.ui.reviewFrame.enabled:
        getattr(panel.ui, f"{name}Button").click()
    session.pause()


@preparation
def revert(session) -> None:
    panel = session.select(session.draw.choice(session.registering).moduleName)
    if panel.history.ui.revertButton.enabled:
        panel.history.ui.revertButton.click()


@preparation
def use(session) -> None:
    """An earlier result, or without it."""
    panel = session.select(session.draw.choice(session.registering).moduleName)
    rows = panel.history.ui.historyList
    if rows.count:
        rows.clearSelection()
        rows.item(session.draw.randrange(rows.count)).setSelected(True)
        button = session.draw.choice(
            (panel.history.ui.useButton, panel.history.ui.settingsButton, panel.history.ui.deleteButton)
        )
        if button.enabled:
            button.click()
