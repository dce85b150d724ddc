"""ANTs through antspyx: any of its named recipes that ends in an affine and a warp."""

from __future__ import annotations

import ants
import SimpleITK as sitk

from .common import main


def options(parser):
    parser.add_argument("--recipe", default="SyN", help="type_of_transform of ants.registration")
    parser.add_argument("--metric", help="of the affine and of SyN, for example mattes; else the recipe's own")


def register(fixed, moving, out, given):
    metric = {"aff_metric": given.metric, "syn_metric": given.metric} if given.metric else {}
    ants.registration(
        ants.image_read(str(fixed)),
        ants.image_read(str(moving)),
        type_of_transform=given.recipe,
        outprefix=f"{out}/",
        random_seed=1,
        **metric,
    )


def dense(fixed, moving, out, given):
    """The warp comes first, on the fixed grid; then the affine (SimpleITK applies the last of a list first)."""
    affine = sitk.ReadTransform(str(out / "0GenericAffine.mat"))
    warp = sitk.DisplacementFieldTransform(sitk.ReadImage(str(out / "1Warp.nii.gz"), sitk.sitkVectorFloat64))
    return sitk.CompositeTransform([affine, warp])


if __name__ == "__main__":
    main(register, dense, options)
