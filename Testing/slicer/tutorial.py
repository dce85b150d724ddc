"""The pictures of the README's tutorial that ``screenshots.py`` does not draw: ``make screenshots``.

One session with the demo pair, by the panels' own buttons: a region of interest, the live preview of a run, a
correction, the history, and the comparison of models side by side.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from screenshots import HEIGHT as PANEL_HEIGHT
from screenshots import (
    VIEWS,
    fit_views,
    match_brightness,
    open_panel,
    panel_picture,
    save,
    slice_picture,
    wait,
    write_small,
)

import ctk  # isort: skip  # the stand-in, which screenshots.py has installed
import slicer  # isort: skip
import vtk  # isort: skip

FOLDED = ("inputsSection", "alignmentSection", "modelSection", "outputSection", "resultSection")
UNFOLDED = ("regionSection", "correctSection", "historySection", "compareSection", "reviewSection")
COMPARED_WIDTH = 440
RIGHT_VENTRICLE = (14.0, -20.0, 22.0)
"""RAS mm, a place in the patient where ventricle and white matter meet."""


def unfold_only(panel, *names: str) -> None:
    """Unfold these of the sections that stay folded until they are wanted."""
    for section in panel.parent.findChildren(ctk.ctkCollapsibleButton):
        if section.objectName in UNFOLDED:
            section.collapsed = section.objectName not in names


def finish(panel) -> None:
    wait(until=lambda: not panel.client.is_busy())
    if panel.parameters.resultTransform is None:
        sys.exit(f"The registration failed: {panel.ui.statusLabel.text}")


def save_region(panel, path: Path) -> None:
    """A box around the place; it is taken away again."""
    slicer.modules.markups.logic().JumpSlicesToLocation(*RIGHT_VENTRICLE, True)
    panel.ui.newBoxButton.click()
    wait()
    unfold_only(panel, "regionSection")
    save(panel, path, hidden=FOLDED[1:])
    slicer.mrmlScene.RemoveNode(panel.parameters.region)
    fit_views()


def save_preview(panel, path: Path) -> None:
    """A run that is well under way; then it is stopped where it is."""
    panel.ui.applyButton.click()
    wait(until=lambda: panel.ui.stopButton.enabled and panel.ui.progressBar.value > 550)
    unfold_only(panel)
    save(panel, path)
    panel.ui.stopButton.click()
    finish(panel)


def save_correction(panel, path: Path) -> None:
    """Two points that are dragged apart by a few millimetres, and met."""
    panel.ui.addPairButton.click()
    panel.parameters.correctFixedPoints.AddControlPointWorld(vtk.vtkVector3d(*RIGHT_VENTRICLE))
    wait()
    moving = panel.parameters.correctMovingPoints
    place = np.array(moving.GetNthControlPointPositionVector(0))
    moving.SetNthControlPointPosition(0, *(place + (2.0, 3.0, -1.0)))
    panel.ui.correctButton.click()
    wait(until=lambda: not panel.client.is_busy())
    unfold_only(panel, "correctSection", "reviewSection")
    slicer.modules.markups.logic().JumpSlicesToLocation(*RIGHT_VENTRICLE, True)
    save(panel, path, hidden=FOLDED)


def save_history(panel, path: Path) -> None:
    unfold_only(panel, "historySection")
    panel.history.ui.historyList.setCurrentRow(0)
    save(panel, path, hidden=FOLDED)


def save_comparison(path: Path) -> None:
    """All models on the pair, side by side."""
    panel = open_panel("RegNet")
    panel.ui.demoButton.click()
    match_brightness(panel)
    panel.compare.ui.compareButton.click()
    wait(until=lambda: not panel.client.is_busy() and not panel.compare.is_running())
    unfold_only(panel, "compareSection")
    names = [name for name in slicer.app.layoutManager().sliceViewNames() if name not in VIEWS]
    VIEWS.update(dict.fromkeys(names, (COMPARED_WIDTH, PANEL_HEIGHT // 2)))
    fit_views()
    pictures = [slice_picture(name) for name in names]
    columns = [np.concatenate(pictures[n : n + 2]) for n in range(0, len(pictures), 2)]
    side = panel_picture(panel, path.parent, FOLDED)
    write_small(path, np.concatenate([side, *(column for column in columns if len(column) == len(side))], axis=1))
    panel.cleanup()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True)
    folder = parser.parse_args().output
    folder.mkdir(parents=True, exist_ok=True)
    panel = open_panel("RegNetAVSM")
    panel.ui.demoButton.click()
    match_brightness(panel)
    fit_views()
    panel.ui.checkerboardButton.click()
    save_region(panel, folder / "region.png")
    save_preview(panel, folder / "preview.png")
    save_correction(panel, folder / "correct.png")
    save_history(panel, folder / "history.png")
    client = panel.client
    panel.cleanup()
    slicer.mrmlScene.Clear(0)
    save_comparison(folder / "compare.png")
    client.stop()


if __name__ == "__main__":
    main()
