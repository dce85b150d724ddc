"""NIfTI files are read whole and intact or refused, and what was written is known to be there."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from regnet import nifti
from regnet.errors import InputError

SHAPE = (9, 17, 31)


def save(path: Path, dtype=np.float32, fill=None) -> Path:
    array = np.random.default_rng(0).normal(100, 20, SHAPE).astype(dtype)
    if fill is not None:
        array[4, 5, 6] = fill
    sitk.WriteImage(sitk.GetImageFromArray(array), str(path))
    return path


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    """Values and headers then straddle chunks, at lengths that no voxel size divides."""
    monkeypatch.setattr(nifti, "CHUNK", 37)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, np.float64])
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_sound_files_pass(tmp_path, name, dtype):
    path = save(tmp_path / name, dtype)
    nifti.check_nifti(path)
    assert nifti.is_complete(path)
    read = nifti.read_checked(path, lambda: sitk.GetArrayFromImage(sitk.ReadImage(str(path))))
    assert read.shape == SHAPE


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_values_that_are_not_finite(tmp_path, name, value, dtype):
    path = save(tmp_path / name, dtype, value)
    with pytest.raises(InputError, match=r"NaN or infinite values \(1 of them\)"):
        nifti.check_nifti(path)
    nifti.check_nifti(path, finite=False)


def test_big_endian_and_trailing_bytes(tmp_path):
    """Bytes after the voxels are of no concern, also where they would read as NaN."""
    header = bytearray(352)
    struct.pack_into(">i", header, 0, 348)
    struct.pack_into(">8h", header, 40, 3, 5, 4, 3, 1, 1, 1, 1)
    struct.pack_into(">2h", header, 70, 16, 32)
    struct.pack_into(">f", header, 108, 352.0)
    header[344:348] = b"n+1\0"
    voxels = np.arange(60, dtype=">f4")
    path = tmp_path / "big.nii"
    path.write_bytes(bytes(header) + voxels.tobytes() + b"\xff" * 40)
    nifti.check_nifti(path)
    voxels[7] = np.nan
    path.write_bytes(bytes(header) + voxels.tobytes())
    with pytest.raises(InputError, match="1 of them"):
        nifti.check_nifti(path)
    path.write_bytes(bytes(header) + voxels.tobytes()[:-1])
    with pytest.raises(InputError, match="cut short"):
        nifti.check_nifti(path, finite=False)
    assert not nifti.is_complete(path)


def test_nifti_2(tmp_path):
    header = bytearray(544)
    struct.pack_into("<i", header, 0, 540)
    header[4:12] = b"n+2\0\r\n\x1a\n"
    struct.pack_into("<2h", header, 12, 64, 64)
    struct.pack_into("<8q", header, 16, 3, 5, 4, 30, 1, 1, 1, 1)
    struct.pack_into("<q", header, 168, 544)
    voxels = np.arange(600.0)
    path = tmp_path / "two.nii"
    path.write_bytes(bytes(header) + voxels.tobytes())
    nifti.check_nifti(path)
    voxels[599] = np.inf
    path.write_bytes(bytes(header) + voxels.tobytes())
    with pytest.raises(InputError, match="1 of them"):
        nifti.check_nifti(path)


@pytest.mark.parametrize("keep", [0, 1, 2, 10, 200, 351, 2000, -9, -1])
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_every_cut_is_found(tmp_path, name, keep):
    path = save(tmp_path / name)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(InputError, match="damaged or cut short"):
        nifti.check_nifti(path)
    assert not nifti.is_complete(path)


def test_every_damaged_byte_is_found(tmp_path):
    path = save(tmp_path / "a.nii.gz")
    data = path.read_bytes()
    for place in range(10, len(data), len(data) // 23):
        damaged = bytearray(data)
        damaged[place] ^= 0x24
        path.write_bytes(damaged)
        with pytest.raises(InputError, match="damaged or cut short"):
            nifti.check_nifti(path)


def test_several_streams_and_padding(tmp_path):
    path = save(tmp_path / "a.nii.gz")
    data = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(data[:1000]) + gzip.compress(data[1000:]) + b"\0" * 100)
    nifti.check_nifti(path)


def test_the_check_speaks_when_itk_does_not(tmp_path):
    path = save(tmp_path / "a.nii.gz")
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(InputError, match="cut short"):
        nifti.read_checked(path, lambda: "what ITK makes of it")


def test_other_files_are_left_to_itk(tmp_path):
    path = tmp_path / "a.nrrd"
    path.write_text("anything")
    assert nifti.read_checked(path, lambda: 5) == 5
    assert nifti.read_checked(tmp_path, lambda: 6) == 6
