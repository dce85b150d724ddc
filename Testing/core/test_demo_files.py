"""The demo pair: complete, small, licensed, and a comparable pair."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import regnet
import SimpleITK as sitk
from regnet import demo
from regnet.errors import InputError

FOLDER = Path(regnet.__file__).resolve().parents[3] / "Resources" / "Demo"
IMAGES = ("patient_T1", "patient_T2", "atlas_T1", "atlas_labels")


def read(name: str) -> sitk.Image:
    return sitk.ReadImage(str(FOLDER / f"{name}.nii.gz"))


def same_grid(a: sitk.Image, b: sitk.Image) -> bool:
    pairs = ((a.GetOrigin(), b.GetOrigin()), (a.GetSpacing(), b.GetSpacing()), (a.GetDirection(), b.GetDirection()))
    return a.GetSize() == b.GetSize() and all(np.allclose(x, y, atol=1e-4) for x, y in pairs)


def test_it_is_found_in_the_checkout():
    assert demo.find_demo_data() == FOLDER
    assert demo.find_demo_data(FOLDER) == FOLDER


def test_it_is_small():
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 5_000_000


def test_every_image_has_its_source_and_its_licence():
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    for name in IMAGES:
        assert f"`{name}.nii.gz`" in readme
    for licence in ("LICENSE-patient.txt", "LICENSE-atlas.txt", "LICENSE-atlas_labels.txt"):
        assert licence in readme and len((FOLDER / licence).read_text(encoding="utf-8")) > 500
    assert "Copyright (c) 2020 Chris Rorden" in (FOLDER / "LICENSE-patient.txt").read_text(encoding="utf-8")
    assert "Copyright (C) 1993-2004 Louis Collins" in (FOLDER / "LICENSE-atlas.txt").read_text(encoding="utf-8")
    shipped = {path.name for path in FOLDER.iterdir()}
    assert shipped == {f"{name}.nii.gz" for name in IMAGES} | {
        "README.md", "LICENSE-patient.txt", "LICENSE-atlas.txt", "LICENSE-atlas_labels.txt",
    }  # fmt: skip


def test_grids_belong_together():
    assert same_grid(read("patient_T1"), read("patient_T2"))
    assert same_grid(read("atlas_T1"), read("atlas_labels"))
    np.testing.assert_allclose(read("patient_T1").GetSpacing(), (1, 1, 1), atol=1e-5)
    np.testing.assert_allclose(read("atlas_T1").GetSpacing(), (2, 2, 2), atol=1e-5)


def test_both_sides_are_brains_without_skull():
    for name in ("patient_T1", "patient_T2", "atlas_T1"):
        array = sitk.GetArrayFromImage(read(name))
        assert array.dtype.itemsize <= 2
        border = np.concatenate([np.take(array, end, axis).ravel() for axis in range(3) for end in (0, -1)])
        assert (border == 0).mean() > 0.99, name
        content = float((array > 0).sum() * np.prod(read(name).GetSpacing())) / 1e6
        assert 0.9 < content < 2.2, name  # litres


def test_labels_cover_the_atlas_brain():
    labels, image = (sitk.GetArrayFromImage(read(name)) for name in ("atlas_labels", "atlas_T1"))
    assert labels.dtype == np.uint8
    assert len(np.unique(labels)) == 117
    assert ((labels > 0) & (image > 0)).sum() / (image > 0).sum() > 0.95
    # Left is left: the odd cortical ids lie at larger x in LPS.
    x = {}
    for label in (101, 102):
        k, j, i = np.argwhere(labels == label).mean(axis=0)
        x[label] = read("atlas_labels").TransformContinuousIndexToPhysicalPoint((i, j, k))[0]
    assert x[101] > 20 and x[102] < -20


def test_missing_folder_or_file_is_one_sentence(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="There is no folder .*--data"):
        demo.find_demo_data(tmp_path / "absent")
    with pytest.raises(InputError, match=r"lacks patient_T1\.nii\.gz, atlas_T1\.nii\.gz, atlas_labels\.nii\.gz"):
        demo.find_demo_data(tmp_path)
    monkeypatch.setattr(demo, "__file__", str(tmp_path / "lib/site-packages/regnet/demo.py"))
    with pytest.raises(InputError, match="not part of the installed package.*--data"):
        demo.find_demo_data()
