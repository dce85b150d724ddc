"""A pair that was sent is not sent again: what is kept for the next run, when it is not good enough, and its end."""

from __future__ import annotations

import json
import os
import signal
import stat

import numpy as np
import pytest
from traces import kept_images, leftovers
from volumes import GEOMETRIES, add_bend, add_linear, add_volume, pattern, rigid


@pytest.fixture
def written(monkeypatch) -> list[np.ndarray]:
    """The arrays of all volumes that the panels have written for the worker."""
    from RegNetLib.private_folder import PrivateFolder
    from RegNetLib.sent_images import PREFIX

    kept, save = [], PrivateFolder.save

    def watched(self, name, array):
        if self.path.name.startswith(PREFIX):
            kept.append(array.copy())
        return save(self, name, array)

    monkeypatch.setattr(PrivateFolder, "save", watched)
    return kept


def change_a_voxel(volume) -> None:
    import slicer

    slicer.util.arrayFromVolume(volume)[20, 21, 22] += 17
    slicer.util.arrayFromVolumeModified(volume)


def runs(sent: list[dict]) -> list[dict]:
    return [request for request in sent if request["command"] == "register"]


def test_a_second_run_writes_no_volume(open_pair, apply, sent, written):
    from regnet.protocol import parse_request

    widget = open_pair()
    apply(widget)
    assert len(written) == 2
    apply(widget)
    first, second = runs(sent)
    assert len(written) == 2 and second["fixed"] == first["fixed"] and second["moving"] == first["moving"]
    assert second["kept_folder"] == first["kept_folder"] and second["folder"] != first["folder"]
    np.testing.assert_array_equal(second["arrays"]["moving"], first["arrays"]["moving"])
    assert parse_request(json.dumps({name: value for name, value in second.items() if name != "arrays"})).moving.kept
    (folder,) = kept_images()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700 and leftovers() == []
    assert widget.ui.statusLabel.text.startswith("Done")


def test_a_changed_voxel_is_sent(open_pair, apply, sent, written):
    widget = open_pair()
    apply(widget)
    change_a_voxel(widget.parameters.movingVolume)
    apply(widget)
    first, second = runs(sent)
    assert len(written) == 3 and second["fixed"]["file"] == first["fixed"]["file"]
    difference = second["arrays"]["moving"].astype(int) - first["arrays"]["moving"]
    assert difference[20, 21, 22] == 17 and np.count_nonzero(difference) == 1


def test_a_moved_parent_changes_the_place_that_is_sent(open_pair, apply, sent, written):
    """The voxels are the same ones, so there is no need to write them again."""
    widget = open_pair()
    root = add_linear("room", rigid((0, 0, 0), (1, 2, 3)))
    table = add_linear("table", rigid((0, 0, 10), (4, 5, 6)), root)
    widget.parameters.fixedVolume.SetAndObserveTransformNodeID(table.GetID())
    apply(widget)
    import slicer

    root.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(rigid((0, 0, 0), (1, 2, 13))))
    apply(widget)
    first, second = (np.array(request["fixed"]["index_to_world"]) for request in runs(sent))
    np.testing.assert_allclose(second - first, [[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 10], [0, 0, 0, 0]], atol=1e-9)
    assert len(written) == 2


def test_what_bends_a_volume_makes_it_another_one(open_pair, apply, sent, written):
    """Every transform above counts: a changed one, one that is put between, and the way back."""
    import slicer

    widget = open_pair()
    bend, root = add_bend("bend"), add_linear("room", rigid((0, 0, 0), (1, 2, 3)))
    widget.parameters.fixedVolume.SetAndObserveTransformNodeID(bend.GetID())
    apply(widget)
    apply(widget)
    assert len(written) == 2
    bend.SetAndObserveTransformNodeID(root.GetID())
    apply(widget)
    root.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(rigid((0, 0, 30), (1, 2, 3))))
    apply(widget)
    assert len(written) == 4
    bend.SetAndObserveTransformNodeID(None)
    apply(widget)
    found = [request["arrays"]["fixed"] for request in runs(sent)]
    np.testing.assert_array_equal(found[4], found[0])
    assert not np.array_equal(found[3], found[2])
    places = [np.array(request["fixed"]["index_to_world"]) for request in runs(sent)]
    np.testing.assert_array_equal(places[4], places[0])


def test_a_run_is_about_the_volume_as_it_was_at_the_click(open_pair, process_events, sent):
    import slicer

    widget = open_pair()
    moving = widget.parameters.movingVolume
    before = slicer.util.arrayFromVolume(moving).copy()
    widget.ui.applyButton.click()
    change_a_voxel(moving)
    assert process_events(until=lambda: not widget.client.is_busy(), timeout=20)
    np.testing.assert_array_equal(runs(sent)[0]["arrays"]["moving"], before)


def test_panels_and_comparisons_share_what_was_sent(open_pair, apply, widget_factory, written):
    widget = open_pair()
    apply(widget)
    other = widget_factory("RegNetMASR")
    other.ui.fixedSelector.setCurrentNode(widget.parameters.fixedVolume)
    other.ui.movingSelector.setCurrentNode(widget.parameters.movingVolume)
    apply(other)
    assert len(written) == 2 and other.ui.statusLabel.text.startswith("Done")


def test_only_the_last_volumes_are_kept(scene):
    from RegNetLib.sent_images import SentImages

    volumes = [add_volume(f"scan {n}", pattern(seed=n), GEOMETRIES["oblique"]) for n in range(5)]
    size = pattern().nbytes

    def held(images) -> list[str]:
        while not images.are_written():
            pass
        return sorted(path.name for path in images.folder.path.iterdir())

    few = SentImages(most_files=3)
    names = [few.entry(volume, None)["file"] for volume in volumes]
    assert held(few) == sorted(names[2:])
    assert few.entry(volumes[2], None)["file"] == names[2]  # the oldest, used again, is the newest now
    few.entry(volumes[0], None)
    assert names[2] in held(few) and names[3] not in held(few)
    small = SentImages(most_bytes=size)
    names = [small.entry(volume, None)["file"] for volume in volumes]
    assert held(small) == sorted(names[3:])  # a pair stays, however large
    for images in (few, small):
        images.clear()
        images.clear()
    assert kept_images() == []


def test_a_killed_worker_is_followed_by_one_that_reads_again(open_pair, apply, process_events, written):
    widget = open_pair()
    apply(widget)
    process = widget.client.process_id()
    os.kill(process, getattr(signal, "SIGKILL", signal.SIGTERM))
    assert process_events(until=lambda: widget.client.process_id() == 0, timeout=10)
    apply(widget)
    assert widget.client.process_id() not in (0, process)
    assert widget.ui.statusLabel.text.startswith("Done") and len(written) == 2


def test_a_worker_killed_in_a_run_leaves_what_the_next_one_needs(open_pair, apply, worker, process_events, written):
    widget = open_pair("slow")
    widget.ui.applyButton.click()
    assert process_events(until=lambda: widget.ui.progressBar.value > 50, timeout=20)
    os.kill(widget.client.process_id(), getattr(signal, "SIGKILL", signal.SIGTERM))
    assert process_events(until=lambda: not widget.client.is_busy(), timeout=10)
    assert len(kept_images()) == 1 and leftovers() == []
    worker.mode = "shift"
    apply(widget)
    assert widget.ui.statusLabel.text.startswith("Done") and len(written) == 2


def test_a_folder_that_somebody_removed_is_made_again(open_pair, apply, written):
    import shutil

    widget = open_pair()
    apply(widget)
    shutil.rmtree(kept_images()[0])
    apply(widget)
    assert widget.ui.statusLabel.text.startswith("Done") and len(written) == 4


@pytest.mark.parametrize("end", ["scene", "panel", "application"])
def test_nothing_is_kept_when_all_is_over(open_pair, apply, scene, end):
    from RegNetLib.worker_client import stop_shared_client

    widget = open_pair()
    apply(widget)
    assert len(kept_images()) == 1
    {"scene": lambda: scene.Clear(0), "panel": widget.cleanup, "application": stop_shared_client}[end]()
    assert kept_images() == [] and leftovers() == []


def test_a_panel_that_goes_away_takes_nothing_from_anothers_run(open_pair, widget_factory, process_events):
    widget = open_pair("slow")
    other = widget_factory("RegNetMASR")
    widget.ui.applyButton.click()
    other.cleanup()
    assert len(kept_images()) == 1
    assert process_events(until=lambda: not widget.client.is_busy(), timeout=20)
    assert widget.ui.statusLabel.text.startswith("Done") and kept_images() == []
