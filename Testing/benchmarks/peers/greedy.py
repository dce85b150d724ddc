"""greedy (picsl_greedy): affine from the image centres, then its deformable registration, both with NCC patches."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk
from picsl_greedy import Greedy3D

from .common import main, threads


def options(parser):
    parser.add_argument("--radius", type=int, default=2, help="radius of the NCC patches in voxels")
    parser.add_argument("--iterations", default="100x50x10", help="iterations per level, coarse to fine")


def register(fixed, moving, out, given):
    metric = f"-m NCC {given.radius}x{given.radius}x{given.radius} -n {given.iterations} -threads {threads()} -V 0"
    affine, warp = out / "affine.mat", out / "warp.nii.gz"
    greedy = Greedy3D()
    greedy.execute(f"-i {fixed} {moving} -a -dof 12 -ia-image-centers {metric} -o {affine}")
    greedy.execute(f"-i {fixed} {moving} -it {affine} {metric} -o {warp}")


def dense(fixed, moving, out, given):
    """The warp comes first, on the fixed grid, in LPS mm; then the affine, a 4×4 matrix in RAS mm."""
    flip = np.diag([-1.0, -1.0, 1.0, 1.0])
    matrix = flip @ np.loadtxt(out / "affine.mat") @ flip
    affine = sitk.AffineTransform(3)
    affine.SetMatrix(matrix[:3, :3].ravel().tolist())
    affine.SetTranslation(matrix[:3, 3].tolist())
    warp = sitk.DisplacementFieldTransform(sitk.ReadImage(str(out / "warp.nii.gz"), sitk.sitkVectorFloat64))
    return sitk.CompositeTransform([affine, warp])


if __name__ == "__main__":
    main(register, dense, options)
