"""No registration: how the images lie by their headers. Where the scores start from."""

from __future__ import annotations

import SimpleITK as sitk

from .common import main


def register(fixed, moving, out, options):
    """There is nothing to do."""


def dense(fixed, moving, out, options):
    return sitk.Transform(3, sitk.sitkIdentity)


if __name__ == "__main__":
    main(register, dense)
