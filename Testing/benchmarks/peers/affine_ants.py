"""ANTs through antspyx: a linear recipe, from the centres of mass, its default."""

from __future__ import annotations

import ants
import SimpleITK as sitk

from .linear import Clock, main, matrix_of


def options(parser):
    parser.add_argument("--recipe", default="Affine", help="type_of_transform of ants.registration, a linear one")
    parser.add_argument("--metric", default="mattes", help="aff_metric of ants.registration")


def find(fixed, moving, out, given):
    images = [ants.image_read(str(path)) for path in (fixed, moving)]
    clock = Clock()
    ants.registration(
        *images, type_of_transform=given.recipe, aff_metric=given.metric, outprefix=f"{out}/", random_seed=1
    )
    clock.stop()
    return matrix_of(sitk.ReadTransform(str(out / "0GenericAffine.mat"))), clock


if __name__ == "__main__":
    main(find, options)
