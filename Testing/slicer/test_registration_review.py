"""The review module on the real worker: a right transform is green, a wrong one is red, and both are told why."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial import cKDTree
from volumes import GEOMETRIES, add_linear, add_volume, rigid

MOVED = rigid((4, -3, 8), (6, -5, 4))
"""RAS: where the moving volume's own points lie in the world of the fixed one."""


def tissue(matrix: np.ndarray, shape, other: bool) -> np.ndarray:
    """Cells about 5 mm wide in an ellipsoid at (30, 20, 30) mm of RAS, in one of two contrasts."""
    generator = np.random.default_rng(0)
    middles = generator.uniform(-1, 1, (350, 3)) * (24, 19, 18)
    greys = generator.uniform(60, 255, 350)
    points = np.moveaxis(np.indices(shape), 0, -1)[..., ::-1] @ matrix[:3, :3].T + matrix[:3, 3] - (30, 20, 30)
    inside = ((points / (24, 19, 18)) ** 2).sum(-1) < 1
    shown = (330 - greys if other else greys)[cKDTree(middles).query(points)[1]]
    return ndimage.gaussian_filter(np.where(inside, shown, 0.0), 0.6).astype(np.float32)


@pytest.fixture
def panel(real_panel):
    widget = real_panel("RegNetReview")
    shape, place = (34, 38, 44), GEOMETRIES["plain"] @ np.diag([1.3, 1.4, 1.5, 1.0])
    own = np.linalg.inv(MOVED) @ place
    widget.parameters.fixedVolume = add_volume("patient", tissue(place, shape, False), place)
    widget.parameters.movingVolume = add_volume("atlas", tissue(MOVED @ own, shape, True), own)
    return widget


def test_right_and_wrong(panel, process_events, tmp_path, monkeypatch):
    import slicer
    from RegNetLib import judge_section

    opened = []
    monkeypatch.setattr(judge_section, "open_page", opened.append)
    panel.ui.reportDirectoryButton.directory = str(tmp_path)

    def verdict(transform, button: str) -> str:
        panel.parameters.resultTransform = transform
        getattr(panel.ui, button).click()
        assert process_events(until=lambda: not panel.client.is_busy(), timeout=240)
        return panel.ui.verdictLabel.text

    assert verdict(add_linear("right", MOVED), "reportButton") == "Green: looks right", panel.ui.reasonsLabel.text
    assert "neighbourhoods fit best within" in panel.ui.reasonsLabel.text
    assert 'class="verdict green"' in opened[0].read_text(encoding="utf-8")
    assert panel.ui.mapComboBox.count == 5
    assert verdict(add_linear("wrong", MOVED @ rigid((0, 0, 0), (12, 0, 0))), "judgeButton") == "Red: do not use it"
    assert "Poor similarity: only" in panel.ui.reasonsLabel.text
    volumes = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
    assert len([one for one in volumes if one.GetAttribute("RegNet.Judged")]) == 8
