"""Deform-GAN through its panel's button: what the worker translates arrives, and without weights it does without.

The networks are small and untrained: these tests are about the way that images take, not about what they show.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json

import numpy as np
import pytest
from volumes import GEOMETRIES, add_volume, pattern


@pytest.fixture(scope="module")
def small_weights(tmp_path_factory):
    """Weights for 3D images where the worker looks first; to be asked for before it starts."""
    import torch
    from regnet.networks.deformgan import DeformGAN, DeformGANConfig
    from regnet.zoo import ENVIRONMENT_VARIABLE
    from safetensors.torch import save

    torch.manual_seed(3)
    config = DeformGANConfig(dims=3, encoder=(4, 6, 6), decoder=(6, 6, 6), last=(6, 4), generator_width=3)
    state = DeformGAN(config).state_dict()
    data = save({name: tensor for name, tensor in state.items() if not name.startswith("discriminator.")})
    folder = tmp_path_factory.mktemp("models")
    (folder / "deformgan").mkdir()
    record = {"sha256": hashlib.sha256(data).hexdigest(), "config": dataclasses.asdict(config)}
    # Those for planes are of the wrong dimension.
    for name in ("to-t1", "to-t1-2d"):
        (folder / "deformgan" / f"{name}.safetensors").write_bytes(data)
        (folder / "deformgan" / f"{name}.json").write_text(json.dumps(record))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(ENVIRONMENT_VARIABLE, str(folder))
        yield


@pytest.fixture
def panel(small_weights, real_panel):
    """The panel on the real worker, asked for the translated image of volumes that are aligned."""
    widget = real_panel("RegNetDeformGAN")
    widget.ui.alignmentComboBox.currentText = "None (already aligned)"
    widget.ui.refinementComboBox.currentText = "Off"
    widget.form._fields["translation"]._widget.click()
    return widget


def choose(panel, fixed, moving) -> None:
    """Two volumes, (array, IJK to RAS) each."""
    panel.ui.fixedSelector.setCurrentNode(add_volume("fixed", *fixed))
    panel.ui.movingSelector.setCurrentNode(add_volume("moving", *moving))


def report_of(transform) -> dict:
    return json.loads(transform.GetAttribute("RegNet.Report"))


def test_the_volume_is_what_the_core_makes(panel, press_apply):
    import regnet
    import slicer
    from regnet.image import Image
    from RegNetLib import conversion

    moving = GEOMETRIES["oblique"] @ np.diag([0.8, 0.9, 0.7, 1.0])
    choose(panel, (pattern(), GEOMETRIES["oblique"]), (400.0 - 3.0 * pattern((50, 52, 62), seed=4), moving))
    volumes = panel.parameters.fixedVolume, panel.parameters.movingVolume
    arrays = [conversion.volume_to_array(volume) for volume in volumes]
    report = report_of(press_apply(panel))
    assert report["weights"]["variant"] == "to-t1" and report["warnings"] == []
    images = [Image.from_numpy(one.array, one.index_to_world, 3) for one in arrays]
    options = {"align": "none", "refine": "off", "parameters": {"translation": True}}
    expected = regnet.register(*images, model="deformgan", device=report["device"], **options).synthetic
    made = panel.parameters.syntheticVolume
    array = slicer.util.arrayFromVolume(made)
    assert made.GetName() == "moving as T1, synthetic (Deform-GAN)" and array.shape == (40, 48, 56)
    np.testing.assert_allclose(array, expected.data[0].numpy(), atol=1e-4)
    assert array.std() > 0.01
    np.testing.assert_allclose(conversion.volume_to_array(made).index_to_world, images[0].index_to_world, atol=1e-5)


def test_without_weights_of_its_dimension_it_warns_and_translates_nothing(panel, press_apply, scene):
    """Single slices, with weights for volumes in the place of theirs."""
    image = pattern((30, 72, 64))[15:16]
    place = np.diag([-1.0, -1.0, 1.0, 1.0])
    choose(panel, (image, place), (np.roll(image.max() - image, (3, -2), axis=(1, 2)), place))
    panel.ui.refinementComboBox.currentText = "Number of steps"
    panel.ui.refineStepsSpinBox.value = 10
    report = report_of(press_apply(panel))
    (warning,) = report["warnings"]
    assert "not for 2D images" in warning and "translates nothing" in warning and report["weights"] is None
    assert warning in panel.ui.statusLabel.text
    assert panel.parameters.syntheticVolume is None and scene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode") == 2


def test_without_weights_by_choice(panel, press_apply):
    choose(panel, (pattern(), GEOMETRIES["plain"]), (pattern(shift=(1, 2, 1)), GEOMETRIES["plain"]))
    panel.form._fields["weights"]._widget.currentText = "None"
    panel.form._fields["refine_with"]._widget.currentText = "MIND-SSC (no trained weights)"
    panel.ui.refinementComboBox.currentText = "Number of steps"
    panel.ui.refineStepsSpinBox.value = 5
    report = report_of(press_apply(panel))
    assert report["weights"] is None and report["warnings"] == []
    assert report["similarity_after"] > report["similarity_before"]
    assert panel.parameters.syntheticVolume is None
