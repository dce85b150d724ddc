"""The verdict in the panels: what the worker is asked, and what becomes of its answer."""

from __future__ import annotations

import fake_worker
import numpy as np
import pytest
from segmentations import add_segmentation
from traces import leftovers, nodes
from volumes import GEOMETRIES, add_bend, add_linear, add_volume, pattern, rigid, through, to_lps

SCALARS, TABLES = "vtkMRMLScalarVolumeNode", "vtkMRMLTableNode"


def asked_for(sent) -> dict:
    return next(message for message in sent if message["command"] == "judge")


def mapped(request: dict, points: np.ndarray) -> np.ndarray:
    """Where the request's steps take world points, LPS."""
    from scipy import ndimage

    for step in request["transforms"]:
        if step["displacement"]:
            field = request["arrays"][step["displacement"]["file"].removesuffix(".npy")]
            matrix = np.linalg.inv(step["displacement"]["index_to_world"])
            index = (points @ matrix[:3, :3].T + matrix[:3, 3])[:, ::-1].T
            moved = [ndimage.map_coordinates(field[..., n], index, order=1, mode="nearest") for n in range(3)]
            points = points + np.stack(moved, -1)
        matrix = np.array(step["affine"])
        points = points @ matrix[:3, :3].T + matrix[:3, 3]
    return points


def expected(transform, points: np.ndarray) -> np.ndarray:
    import vtk

    pull = vtk.vtkGeneralTransform()
    transform.GetTransformFromWorld(pull)
    return to_lps(through(pull, to_lps(points)))


def world_points(request: dict) -> np.ndarray:
    """Some points of the fixed volume, LPS."""
    matrix, shape = np.array(request["fixed"]["index_to_world"]), request["arrays"]["fixed"].shape
    index = np.random.default_rng(1).uniform(2, np.array(shape[::-1]) - 3, (40, 3))
    return index @ matrix[:3, :3].T + matrix[:3, 3]


def test_the_worker_gets_the_way_from_the_fixed_world_to_the_moving_volumes_own_points(open_review, press_judge, sent):
    widget = open_review()
    table = add_linear("table", rigid((0, 0, 20), (30, 0, 0)))
    widget.parameters.fixedVolume.SetAndObserveTransformNodeID(table.GetID())
    press_judge(widget)
    request = asked_for(sent)
    points = world_points(request)
    np.testing.assert_allclose(mapped(request, points), expected(widget.parameters.resultTransform, points), atol=1e-3)
    np.testing.assert_array_equal(request["arrays"]["moving"], pattern(shift=(1, 2, 3)).astype(np.int16))
    own = np.diag([-1.0, -1.0, 1.0, 1.0]) @ GEOMETRIES["oblique"]
    np.testing.assert_allclose(request["moving"]["index_to_world"], own)
    placed = np.diag([-1.0, -1.0, 1.0, 1.0]) @ rigid((0, 0, 20), (30, 0, 0)) @ GEOMETRIES["plain"]
    np.testing.assert_allclose(request["fixed"]["index_to_world"], placed, atol=1e-6)
    assert request["names"] == ["patient", "atlas"] and request["run"] is None and not request["page"]
    np.testing.assert_allclose(request["before"], np.eye(4), atol=1e-9)


@pytest.mark.parametrize("kind", ["field and matrix", "bend", "inverted field"])
def test_dense_transforms_are_sent_as_they_are_or_sampled(open_review, press_judge, sent, scene, kind):
    """A field that holds the fixed volume keeps its own voxels, so that no fold between the samples is lost."""
    from RegNetLib import conversion

    widget = open_review()
    if kind == "bend":
        node = add_bend("bend")
    else:
        shape, place = (50, 60, 66), np.diag([-1.0, -1.0, 1.0, 1.0]) @ GEOMETRIES["plain"]
        place[:3, 3] -= place[:3, :3] @ [5, 6, 5]
        field = fake_worker.displacement(shape)
        node = scene.AddNewNodeByClass("vtkMRMLTransformNode", "dense")
        pull = conversion.pull_transform(fake_worker.AFFINE, field, place)
        set_it = (
            node.SetAndObserveTransformToParent if kind == "inverted field" else node.SetAndObserveTransformFromParent
        )
        set_it(pull)
    widget.parameters.resultTransform = node
    press_judge(widget)
    request = asked_for(sent)
    points = world_points(request)
    tolerance = 1e-3 if kind == "field and matrix" else 0.3
    np.testing.assert_allclose(mapped(request, points), expected(node, points), atol=tolerance)
    if kind == "field and matrix":
        np.testing.assert_allclose(request["arrays"]["transform-0"], field, atol=1e-5)


def test_the_verdict_its_reasons_the_maps_and_the_table(open_review, press_judge, scene, grab):
    import slicer

    widget = open_review()
    assert widget.ui.verdictLabel.text == "Not judged yet"
    assert not widget.ui.mapComboBox.enabled and not widget.ui.jumpFoldButton.enabled
    press_judge(widget)
    assert widget.ui.verdictLabel.text == "Red: do not use it"
    assert widget.ui.reasonsLabel.text == "• A fold was found.\n• It does not fit."
    picture = grab(widget.ui.lightLabel, "light.png").astype(int)
    lit = (picture[..., 0] > 180) & (picture[..., 1] < 90)
    assert lit[:, : lit.shape[1] // 3].sum() > 100 and not lit[:, lit.shape[1] // 2 :].any()
    found = {
        n.GetAttribute("RegNet.Judged"): n
        for n in slicer.util.getNodesByClass(SCALARS)
        if n.GetAttribute("RegNet.Judged")
    }
    assert set(found) == {"jacobian", "displacement"}
    node = found["jacobian"]
    assert node.GetName() == "Jacobian determinant of result"
    array = slicer.util.arrayFromVolume(node)
    assert array[fake_worker.FOLD] == np.float32(-0.4) and array.shape == pattern().shape
    np.testing.assert_allclose(slicer.util.arrayFromVTKMatrix(ijk_to_ras(node)), GEOMETRIES["plain"])
    table = scene.GetFirstNodeByClass(TABLES).GetTable()
    told = {table.GetValue(n, 0).ToString(): table.GetValue(n, 1).ToString() for n in range(table.GetNumberOfRows())}
    assert told["Verdict"] == "Do not use it" and told["Displacement, largest"] == "8.00"
    at = GEOMETRIES["plain"] @ [*fake_worker.FOLD[::-1], 1.0]
    assert told["Smallest Jacobian determinant, at"] == ", ".join(f"{step:.1f}" for step in at[:3])
    assert leftovers() == []


def ijk_to_ras(node):
    import vtk

    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    return matrix


def test_judging_again_fills_the_same_nodes(open_review, press_judge, scene):
    widget = open_review()
    press_judge(widget)
    before = nodes(scene, SCALARS), nodes(scene, TABLES), scene.GetNumberOfNodes()
    press_judge(widget)
    assert (nodes(scene, SCALARS), nodes(scene, TABLES), scene.GetNumberOfNodes()) == before


def test_a_verdict_is_about_what_was_judged(open_review, press_judge, process_events):
    """Any change of the transform or of a volume's place takes it back; the way back brings it back."""
    import slicer

    widget = open_review()
    press_judge(widget)
    transform = widget.parameters.resultTransform
    matrix = slicer.util.arrayFromVTKMatrix(transform.GetMatrixTransformToParent())
    transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(rigid((3, -4, 5), (7, 0, -2))))
    assert widget.ui.verdictLabel.text == "Not judged since it changed"
    assert not widget.ui.jumpMovedButton.enabled
    transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(matrix))
    assert widget.ui.verdictLabel.text == "Red: do not use it"
    other = add_linear("other", rigid())
    widget.parameters.resultTransform = other
    assert widget.ui.verdictLabel.text == "Not judged yet" and not widget.ui.mapComboBox.enabled
    widget.parameters.resultTransform = transform
    assert widget.ui.verdictLabel.text == "Red: do not use it"
    widget.parameters.fixedVolume = add_volume("another")
    assert widget.ui.verdictLabel.text == "Not judged since it changed"


def test_the_map_in_the_slice_views_shows_the_fold_in_red(open_review, press_judge, grab_slice):
    widget = open_review()
    press_judge(widget)
    widget.ui.showPairButton.click()
    widget.ui.checkerboardButton.click()
    combo = widget.ui.mapComboBox
    assert [combo.itemText(n) for n in range(combo.count)] == ["None", "Jacobian determinant", "Displacement (mm)"]
    combo.currentIndex = 1
    widget.ui.jumpFoldButton.click()
    picture = grab_slice("Red", size=(401, 401)).astype(int)
    middle = picture[198:203, 198:203].reshape(-1, 3).mean(axis=0)
    assert middle[0] > 100 and middle[0] > 2.5 * max(middle[1:])  # red: the fold, in the middle of the view
    beside = picture[160:240, 60:340].reshape(-1, 3)
    assert np.median(beside[:, 2] - beside[:, 0]) > 20  # blue: smaller in the moving volume
    widget.ui.fadeButton.click()
    assert combo.currentIndex == 0
    faded = grab_slice("Red", size=(401, 401)).astype(int)[100:300, 100:300]
    assert np.ptp(faded, axis=2).max() < 6  # greys


def test_no_map_puts_the_pair_back(open_review, press_judge, scene):
    import slicer

    widget = open_review()
    press_judge(widget)
    widget.ui.showPairButton.click()
    view = slicer.app.layoutManager().sliceWidget("Red").mrmlSliceCompositeNode()
    widget.ui.mapComboBox.currentIndex = 2
    shown = scene.GetNodeByID(view.GetForegroundVolumeID())
    assert shown.GetName() == "Displacement (mm) of result" and view.GetForegroundOpacity() == 0.6
    widget.ui.mapComboBox.currentIndex = 0
    assert view.GetForegroundVolumeID() == widget.parameters.movingVolume.GetID()
    assert view.GetForegroundOpacity() == 0.5
    widget.ui.mapComboBox.currentIndex = 2
    scene.RemoveNode(shown)
    widget.judge.refresh()
    assert widget.ui.mapComboBox.currentIndex == 0 and widget.ui.mapComboBox.count == 2


def test_going_to_the_largest_displacement(open_review, press_judge):
    from RegNetLib.slice_views import slice_views

    widget = open_review()
    press_judge(widget)
    widget.ui.jumpMovedButton.click()
    for view in slice_views():
        place = [view.slice_node.GetSliceToRAS().GetElement(axis, 3) for axis in range(3)]
        np.testing.assert_allclose(place, GEOMETRIES["plain"][:3, 3], atol=1e-6)


def test_the_report_is_kept_and_opened(open_review, press_judge, tmp_path, monkeypatch):
    from RegNetLib import judge_section

    opened = []
    monkeypatch.setattr(judge_section, "open_page", opened.append)
    widget = open_review()
    widget.parameters.movingVolume.SetName('a/t"las')
    widget.ui.reportDirectoryButton.directory = str(tmp_path)
    press_judge(widget, "reportButton")
    press_judge(widget, "reportButton")
    assert opened == [tmp_path / "a_t_las to patient.html", tmp_path / "a_t_las to patient 2.html"]
    assert sorted(tmp_path.glob("*.html")) == sorted(opened) and opened[0].read_text() == "<html>judged</html>"
    assert "a_t_las to patient 2.html" in widget.ui.judgeStatusLabel.text
    press_judge(widget)
    assert len(opened) == 2  # without being asked for there is none


def test_a_report_that_cannot_be_written(open_review, press_judge, scene, tmp_path):
    widget = open_review()
    widget.ui.reportDirectoryButton.directory = str(tmp_path / "missing")
    count = scene.GetNumberOfNodes()
    press_judge(widget, "reportButton")
    assert "the report cannot be written to" in widget.ui.judgeStatusLabel.text
    assert scene.GetNumberOfNodes() == count and widget.ui.verdictLabel.text == "Not judged yet"


def test_segmentations_and_points_of_both_sides(open_review, press_judge, sent, scene):
    widget = open_review()
    widget.ui.fixedSegmentationSelector.setCurrentNode(add_segmentation("organs"))
    widget.ui.movingSegmentationSelector.setCurrentNode(add_segmentation("atlas organs", None, GEOMETRIES["oblique"]))
    points = np.array([(5.0, -7, 9), (20, 10, 15), (30, 20, 40)])
    own = through_ras(widget.parameters.resultTransform, points)
    errors = np.array([(0.0, 0, 3), (4, 0, 0), (0, 2, 0)])
    for name, place in (("fixed", points), ("moving", own + errors)):
        node = scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", name)
        for point in place:
            node.AddControlPoint(*point)
        getattr(widget.ui, f"{name}PointsSelector").setCurrentNode(node)
    press_judge(widget)
    request = asked_for(sent)
    assert [one["name"] for one in request["fixed_segments"]] == ["liver", "kidney", "lesion"]
    assert request["arrays"]["moving_labels"].max() > 0
    text = widget.ui.reasonsLabel.text
    assert "Dice 0.800, HD95 2.0 mm: mean of 3 segments." in text
    assert "Target registration error 3.00 mm: mean of 3 points, largest 4.00 mm." in text
    node.RemoveNthControlPoint(0)
    widget.ui.judgeButton.click()
    assert widget.ui.judgeStatusLabel.text == "There are 3 fixed and 2 moving points; they must come in pairs."
    assert leftovers() == [] and widget.ui.verdictLabel.text == "Red: do not use it"


def through_ras(transform, points: np.ndarray) -> np.ndarray:
    import vtk

    pull = vtk.vtkGeneralTransform()
    transform.GetTransformFromWorld(pull)
    return through(pull, points)


def test_the_registration_panels_judge_their_results(open_pair, apply, press_judge, sent, process_events):
    """The same section; the run's report goes along, and a new run makes the verdict an old one."""
    panel = open_pair()
    assert not panel.ui.judgeButton.enabled
    apply(panel)
    press_judge(panel)
    request = asked_for(sent)
    assert request["run"]["warnings"] == ["A test warning."]
    points = world_points(request)
    found, right = mapped(request, points), expected(panel.parameters.resultTransform, points)
    np.testing.assert_allclose(found, right, atol=1e-2)
    assert panel.ui.verdictLabel.text == "Red: do not use it"


def test_the_choices_are_saved_with_the_scene(open_review, scene):
    widget = open_review()
    node = add_segmentation("organs")
    widget.ui.fixedSegmentationSelector.setCurrentNode(node)
    widget.exit()
    widget.on_scene_start_import()
    widget.on_scene_ready()
    widget.enter()
    assert widget.ui.fixedSegmentationSelector.currentNode() is node
    scene.RemoveNode(node)
    assert widget.ui.fixedSegmentationSelector.currentNode() is None


@pytest.mark.parametrize("kind", ["linear", "dense"])
def test_a_fixed_volume_that_a_transform_bends(open_review, press_judge, sent, scene, kind, capfd):
    """It is judged as it is seen, in the world; when it is bent otherwise the verdict holds no more."""
    widget = open_review(transform=add_bend("dense") if kind == "dense" else None)
    place = add_bend("place")
    widget.parameters.fixedVolume.SetAndObserveTransformNodeID(place.GetID())
    press_judge(widget)
    request = asked_for(sent)
    points = world_points(request)
    result = widget.parameters.resultTransform
    np.testing.assert_allclose(mapped(request, points), expected(result, points), atol=0.3)
    assert widget.ui.verdictLabel.text == "Red: do not use it"
    place.SetAndObserveTransformToParent(None)
    widget.enter()
    assert widget.ui.verdictLabel.text == "Not judged since it changed"
    assert "is not linear" not in capfd.readouterr().err
