"""The fused volume in the review: beside fade, checkerboard and difference, as long as it shows the present result."""

from __future__ import annotations

import numpy as np
import pytest
from volumes import add_volume, pattern

NAME = "atlas fused with patient (BSAFusion)"


@pytest.fixture
def panel(open_pair):
    """BSAFusion's panel on the stand-in worker."""
    return open_pair(module="RegNetBSAFusion")


def displayed(volume) -> np.ndarray:
    """What the display node makes of a volume before it is cut into slices, (voxels, RGBA)."""
    from vtk.util.numpy_support import vtk_to_numpy

    port = volume.GetDisplayNode().GetImageDataConnection()
    port.GetProducer().Update()
    return vtk_to_numpy(port.GetProducer().GetOutputDataObject(port.GetIndex()).GetPointData().GetScalars())


def views() -> list:
    import slicer

    return [node for node in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode") if node is not None]


def shown() -> set[tuple]:
    """The (background, foreground) of the slice views, by name."""
    import slicer

    def name(identity):
        return slicer.mrmlScene.GetNodeByID(identity).GetName() if identity else None

    return {(name(view.GetBackgroundVolumeID()), name(view.GetForegroundVolumeID())) for view in views()}


def test_a_slice_view_shows_its_colours_as_they_are(panel, apply, grab_slice):
    import slicer

    display = panel.parameters.movingVolume.GetDisplayNode()
    display.SetAndObserveColorNodeID("vtkMRMLPETProceduralColorNodePET-Heat")
    apply(panel)
    volume = panel.parameters.fusedVolume
    np.testing.assert_array_equal(displayed(volume)[..., :3].ravel(), slicer.util.arrayFromVolume(volume).ravel())
    panel.ui.fusedButton.click()
    picture = grab_slice("Red")[20:-20, 20:-20].reshape(-1, 3).astype(float)
    bright = picture[picture[:, 0] > 100]
    assert len(bright) > 1000
    np.testing.assert_allclose(bright[:, 1] / bright[:, 0], 128 / 255, atol=0.03)
    np.testing.assert_allclose(bright[:, 2] / bright[:, 0], 30 / 255, atol=0.03)


def test_the_views_show_the_pair_or_the_fused_volume_as_chosen(panel, apply, grab_slice):
    assert not panel.ui.fusedButton.isVisibleTo(panel.parent)
    apply(panel)
    assert panel.ui.fusedButton.isVisibleTo(panel.parent) and panel.review.mode() == "fade"
    assert shown() == {("patient", "atlas")} and {view.GetForegroundOpacity() for view in views()} == {0.5}
    faded = grab_slice("Red")
    panel.ui.fusedButton.click()
    assert panel.review.mode() == "fused" and shown() == {(NAME, None)}
    assert not panel.ui.fadeSlider.isVisibleTo(panel.parent) and not panel.ui.tileSlider.isVisibleTo(panel.parent)
    fused = grab_slice("Red")
    assert np.abs(fused.astype(int) - faded).max() > 30
    apply(panel)  # the choice stays
    assert panel.review.mode() == "fused" and shown() == {(NAME, None)}
    panel.ui.checkerboardButton.click()
    assert shown() == {("patient", "atlas")}
    board = grab_slice("Red")
    assert np.abs(board.astype(int) - faded).max() > 30
    panel.ui.fadeButton.click()
    np.testing.assert_array_equal(grab_slice("Red"), faded)


def test_show_this_pair_means_the_pair(panel, apply):
    apply(panel)
    panel.ui.fusedButton.click()
    panel.ui.showPairButton.click()
    assert panel.review.mode() == "fade" and shown() == {("patient", "atlas")}


def test_what_the_user_put_into_the_views_stays_there(panel, apply):
    import slicer

    apply(panel)
    panel.ui.fusedButton.click()
    other = add_volume("other", pattern(seed=8))
    slicer.util.setSliceViewerLayers(background=other)
    panel.ui.fadeButton.click()
    assert shown() == {("other", None)}


@pytest.mark.parametrize("how", ["removed", "other pair", "registered without"])
def test_without_its_fused_volume_the_review_goes_back_to_the_pair(panel, apply, scene, process_events, how):
    apply(panel)
    panel.ui.fusedButton.click()
    first = panel.parameters.fusedVolume
    moving = "atlas"
    if how == "removed":
        scene.RemoveNode(first)
    elif how == "other pair":
        moving = "follow-up"
        panel.ui.movingSelector.setCurrentNode(add_volume(moving, pattern(shift=(2, 0, 1))))
    else:
        panel.form._fields["fusion"]._widget.currentText = "Off"
        apply(panel)
        assert scene.IsNodePresent(first)
    process_events()
    assert panel.review.mode() == "fade" and not panel.ui.fusedButton.isVisibleTo(panel.parent)
    assert shown() == {("patient", moving)}
    if how == "registered without":  # and the next fusion fills the same volume
        panel.form._fields["fusion"]._widget.currentText = "Automatic"
        apply(panel)
        assert panel.parameters.fusedVolume is first and panel.ui.fusedButton.isVisibleTo(panel.parent)
