"""The pictures of the README, from the real panels and the real slice views: ``make screenshots``.

Registers the demo pair by pressing the panel's buttons, and draws the panel beside the slice views before and after.
``--module RegNetMASR`` does the same with that module's panel and the patient's T2 image, under names of its own;
``--module RegNetPropagation`` carries the atlas' regions to the patient, ``--module RegNetReview`` reviews what
``RegNetAVSM`` made of the demo pair; ``--panel-only`` draws the panel alone with
its advanced parameters unfolded, and registers nothing.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image

HERE = Path(__file__).resolve().parent
MODULES = HERE.parents[1] / "RegNetModules"
NAMES = ("RegNet", "RegNetAVSM", "RegNetMASR", "RegNetDDIM", "RegNetDeformGAN", "RegNetBSAFusion", "RegNetPropagation")
NAMES += ("RegNetReview",)
sys.path[:0] = [str(HERE), *(str(MODULES / name) for name in NAMES)]

import host  # noqa: E402

APPLICATION = host.install()

import ctk  # noqa: E402
import qt  # noqa: E402
import slicer  # noqa: E402
from host.pictures import read_png, render_to_array  # noqa: E402

PANEL_WIDTH, HEIGHT = 500, 1000
VIEWS = {"Red": (660, HEIGHT), "Yellow": (540, HEIGHT // 2), "Green": (540, HEIGHT // 2)}
GAP, BAR = 4, 6
COLOURS = {"Red": (243, 74, 51), "Yellow": (237, 213, 76), "Green": (110, 176, 75)}
GREY = (150, 150, 150)
SCALE, SHADES = 2 / 3, 128
PATIENCE_S = 600
PICTURES = {
    "RegNetAVSM": "",
    "RegNetMASR": "masr-",
    "RegNetDDIM": "ddim-",
    "RegNetDeformGAN": "deformgan-",
    "RegNetBSAFusion": "bsafusion-",
}
"""Modules, and what their pictures' names begin with."""
PROPAGATION, REVIEW = "RegNetPropagation", "RegNetReview"


def wait(until=None, seconds: float = 0.5) -> None:
    """Let timers, the worker and deferred rendering work."""
    limit = time.monotonic() + (PATIENCE_S if until else seconds)
    while time.monotonic() < limit and not (until and until()):
        slicer.app.processEvents()
        time.sleep(0.01)


def open_panel(module: str):
    """The module's panel; the home module is loaded first, as in Slicer."""
    for name in ("RegNet", module):
        APPLICATION.moduleManager().load_scripted(name, MODULES / name / f"{name}.py")
    APPLICATION.startupCompleted.emit()
    slicer.util.selectModule(module)
    wait()
    return slicer.util.getModuleWidget(module)


def match_brightness(panel) -> None:
    """Window both images from black to their white matter, as a user would before comparing them."""
    for volume in (panel.parameters.fixedVolume, panel.parameters.movingVolume):
        array = slicer.util.arrayFromVolume(volume)
        display = volume.GetDisplayNode()
        display.SetAutoWindowLevel(False)
        display.SetWindowLevelMinMax(0, 1.1 * float(np.percentile(array[array > 0], 95)))


def panel_picture(panel, folder: Path, hidden=()) -> np.ndarray:
    """The panel, (HEIGHT, PANEL_WIDTH, 3). Sections in ``hidden`` are folded, as a user would to see the rest."""
    for name in ("inputsSection", "alignmentSection", "modelSection", "outputSection", "mappingSection"):
        if hasattr(panel.ui, name):
            getattr(panel.ui, name).collapsed = name in hidden
    panel.parent.resize(PANEL_WIDTH, HEIGHT)
    wait()
    path = folder / "panel.part.png"
    panel.parent.grab().toImage().convertToFormat(qt.QImage.Format_RGB888).save(str(path))
    picture = read_png(str(path))
    path.unlink()
    canvas = np.full((HEIGHT, PANEL_WIDTH, 3), picture[-1, 0], np.uint8)
    canvas[: min(HEIGHT, len(picture))] = picture[:HEIGHT, :PANEL_WIDTH]
    return canvas


def slice_picture(name: str) -> np.ndarray:
    """One slice view under a bar of its colour."""
    width, height = VIEWS[name]
    view = slicer.app.layoutManager().sliceWidget(name)
    view._native._set_size((width, height - BAR))
    wait()
    bar = np.full((BAR, width, 3), COLOURS.get(name, GREY), np.uint8)
    return np.concatenate([bar, render_to_array(view.sliceView().renderWindow())])


def fit_views() -> None:
    for name, (width, height) in VIEWS.items():
        slicer.app.layoutManager().sliceWidget(name)._native._set_size((width, height - BAR))
    slicer.util.resetSliceViews()
    wait()


def save(panel, path: Path, hidden=()) -> None:
    red, yellow, green = (slice_picture(name) for name in VIEWS)
    green = green[: HEIGHT - GAP - len(yellow)]
    line = np.full((GAP, yellow.shape[1], 3), 30, np.uint8)
    right = np.concatenate([yellow, line, green])
    column = np.full((HEIGHT, GAP, 3), 30, np.uint8)
    write_small(path, np.concatenate([panel_picture(panel, path.parent, hidden), red, column, right], axis=1))


def write_small(path: Path, picture: np.ndarray) -> None:
    """Write (H, W, 3) as small as the README shows it, in as many colours as it needs."""
    whole = Image.fromarray(np.ascontiguousarray(picture))
    small = whole.resize([round(SCALE * n) for n in whole.size], Image.Resampling.LANCZOS)
    small.quantize(SHADES, dither=Image.Dither.NONE).save(path, optimize=True)
    print(path)


def save_panel(panel, path: Path) -> None:
    """The panel alone, the model's advanced parameters unfolded."""
    sections = panel.ui.modelParametersFrame.findChildren(ctk.ctkCollapsibleButton)
    for section in sections:
        section.collapsed = False
    write_small(path, panel_picture(panel, path.parent))
    for section in sections:
        section.collapsed = True


def save_run(panel, folder: Path, prefix: str) -> None:
    """A registration of the loaded pair: before, and after in two ways of looking at it."""
    match_brightness(panel)
    fit_views()
    panel.ui.tileSlider.value = 25
    panel.ui.checkerboardButton.click()
    save(panel, folder / f"{prefix}before.png")
    panel.ui.applyButton.click()
    wait(until=lambda: not panel.client.is_busy())
    if panel.parameters.resultTransform is None:
        sys.exit(f"The registration failed: {panel.ui.statusLabel.text}")
    fit_views()
    save(panel, folder / f"{prefix}checkerboard.png", hidden=("inputsSection", "alignmentSection", "modelSection"))
    panel.ui.fadeButton.click()
    panel.ui.gridCheckBox.click()
    save(panel, folder / f"{prefix}after.png", hidden=("inputsSection", "alignmentSection", "modelSection"))
    if panel.parameters.fusedVolume is not None:
        panel.ui.gridCheckBox.click()
        panel.ui.fusedButton.click()
        save(panel, folder / f"{prefix}fused.png", hidden=("inputsSection", "alignmentSection", "modelSection"))


def save_propagation(panel, folder: Path) -> None:
    """The atlas' regions carried to the patient."""
    from RegNetLib.sample_data import demo_folder, load_demo_pair

    patient, atlas = load_demo_pair()
    labels = slicer.util.loadVolume(str(demo_folder() / "atlas_labels.nii.gz"), {"labelmap": True})
    regions = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Regions")
    regions.CreateDefaultDisplayNodes()
    slicer.modules.segmentations.logic().ImportLabelmapToSegmentationNode(labels, regions)
    slicer.mrmlScene.RemoveNode(labels)
    panel.parameters.scan, panel.parameters.segmentation = atlas, regions
    panel.parameters.set_targets([patient])
    panel.ui.applyButton.click()
    wait(until=lambda: not panel.client.is_busy())
    if not panel.ui.statusLabel.text.startswith("Done"):
        sys.exit(f"The propagation failed: {panel.ui.statusLabel.text}")
    fit_views()
    save(panel, folder / "propagation.png", hidden=("inputsSection", "mappingSection"))


def save_review(panel, folder: Path) -> None:
    """The demo pair registered by AVSM, judged, with the map of the determinant."""
    source = open_panel("RegNetAVSM")
    source.ui.demoButton.click()
    source.ui.applyButton.click()
    wait(until=lambda: not source.client.is_busy())
    match_brightness(source)
    transform = source.parameters.resultTransform
    slicer.util.selectModule(REVIEW)
    panel.parameters.resultTransform = transform
    panel.ui.judgeButton.click()
    wait(until=lambda: not panel.client.is_busy())
    if panel.ui.judgeStatusLabel.text:
        sys.exit(f"The judgement failed: {panel.ui.judgeStatusLabel.text}")
    panel.ui.showPairButton.click()
    fit_views()
    panel.ui.mapComboBox.currentIndex = panel.ui.mapComboBox.findData("jacobian")
    save(panel, folder / "review-jacobian.png")
    source.cleanup()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=HERE.parents[1] / "Resources" / "Screenshots")
    parser.add_argument("--module", choices=[*PICTURES, PROPAGATION, REVIEW], default="RegNetAVSM")
    parser.add_argument("--panel-only", action="store_true")
    options = parser.parse_args()
    folder, prefix = options.output, PICTURES.get(options.module, "")
    folder.mkdir(parents=True, exist_ok=True)
    panel = open_panel(options.module)
    if options.module == PROPAGATION:
        save_propagation(panel, folder)
    elif options.module == REVIEW:
        save_review(panel, folder)
    else:
        panel.ui.demoButton.click()
        if options.panel_only:
            save_panel(panel, folder / f"{prefix}panel.png")
        else:
            save_run(panel, folder, prefix)
    panel.cleanup()
    panel.client.stop()


if __name__ == "__main__":
    main()
