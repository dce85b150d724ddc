"""Real registrations on the real worker, watched while they go on, and stopped."""

from __future__ import annotations

import json

import numpy as np
import pytest
from test_registration import add_pair


@pytest.fixture
def panel(real_panel):
    """RegNet AVSM's panel on the real worker, with more iterations than anybody would wait for."""
    widget = real_panel("RegNetAVSM")
    fixed, moving = add_pair("oblique", "left-handed", "linear")
    widget.ui.fixedSelector.setCurrentNode(fixed)
    widget.ui.movingSelector.setCurrentNode(moving)
    widget.ui.refinementComboBox.currentText = "Number of steps"
    widget.ui.refineStepsSpinBox.value = 1000
    return widget


def test_watch_and_stop_here(panel, process_events, scene, monkeypatch):
    import slicer
    from RegNetLib import conversion
    from RegNetLib.live_preview import LivePreview

    moving, parent = panel.parameters.movingVolume, panel.parameters.movingVolume.GetParentTransformNode()
    shown, show = [], LivePreview.show

    def listen(self, preview, folder):
        done = show(self, preview, folder)
        if done:
            shown.append(moving.GetParentTransformNode())
        return done

    monkeypatch.setattr(LivePreview, "show", listen)
    panel.ui.applyButton.click()
    assert process_events(until=lambda: panel.ui.stopButton.enabled, timeout=120)
    count = len(shown)
    assert process_events(until=lambda: len(shown) > count + 3, timeout=60)
    assert all(node.GetName() == "Live preview" for node in shown)
    # The last preview, sampled over the fixed volume before it is taken away.
    lattice = conversion.volume_to_array(
        panel.parameters.fixedVolume, panel.parameters.fixedVolume.GetParentTransformNode()
    )
    preview = conversion.displacement_through(shown[-1], lattice).array
    panel.ui.stopButton.click()
    assert process_events(until=lambda: not panel.client.is_busy(), timeout=60)
    assert panel.ui.statusLabel.text.startswith("Done") and "Stopped early, as asked, in" in panel.ui.statusLabel.text
    result = panel.parameters.resultTransform
    report = json.loads(result.GetAttribute("RegNet.Report"))
    assert report["similarity_after"] > report["similarity_before"] and report["folding_percent"] == 0
    assert report["stopped_in"]
    assert moving.GetParentTransformNode() is result and result.GetNodeReference("RegNetMovingParent") is parent
    assert slicer.mrmlScene.GetFirstNodeByName("Live preview") is None
    # What was seen last is close to what was kept.
    kept = conversion.displacement_through(result, lattice).array
    middle = (slice(8, -8),) * 3
    assert np.linalg.norm((kept - preview)[middle], axis=-1).mean() < 1.0
    assert np.linalg.norm(kept[middle], axis=-1).mean() > 5.0


def test_cancel_keeps_nothing_of_it(panel, process_events, scene):
    moving = panel.parameters.movingVolume
    parent, count = moving.GetParentTransformNode(), scene.GetNumberOfNodes()
    panel.ui.applyButton.click()
    assert process_events(until=lambda: moving.GetParentTransformNode() is not parent, timeout=120)
    panel.ui.applyButton.click()
    assert moving.GetParentTransformNode() is parent
    assert process_events(until=lambda: not panel.client.is_busy(), timeout=60)
    assert scene.GetNumberOfNodes() == count and panel.parameters.resultTransform is None
