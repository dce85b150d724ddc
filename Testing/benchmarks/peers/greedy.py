"""greedy (picsl_greedy): aligned from the image centres, then its deformable registration, both with one metric.

NCC patches, for images of one kind: affine at once. Mutual information, for images of different kinds, takes hold only
nearby: a rigid registration from the best of some random starts comes first, and with ``--dof 6`` there it stays.
"""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk
from picsl_greedy import Greedy3D

from .common import main, threads

# Rigid transforms that are tried first with MI and NMI: how many, with which deviation in degrees and in mm.
SEARCH = "-search 500 15 15 -seed 1"


def options(parser):
    parser.add_argument("--metric", choices=("NCC", "MI", "NMI"), default="NCC")
    parser.add_argument("--dof", type=int, choices=(6, 12), default=12, help="of the alignment: rigid or affine")
    parser.add_argument("--radius", type=int, default=2, help="radius of the NCC patches in voxels")
    parser.add_argument("--iterations", default="100x50x10", help="iterations per level, coarse to fine")


def register(fixed, moving, out, given):
    patches = f" {given.radius}x{given.radius}x{given.radius}" if given.metric == "NCC" else ""
    metric = f"-m {given.metric}{patches} -n {given.iterations} -threads {threads()} -V 0"
    matrix, warp = out / "alignment.mat", out / "warp.nii.gz"
    start = "-ia-image-centers"
    greedy = Greedy3D()
    if given.metric != "NCC":
        greedy.execute(f"-i {fixed} {moving} -a -dof 6 {start} {SEARCH} {metric} -o {matrix}")
        start = f"-ia {matrix}"
    if given.metric == "NCC" or given.dof == 12:
        greedy.execute(f"-i {fixed} {moving} -a -dof {given.dof} {start} {metric} -o {matrix}")
    greedy.execute(f"-i {fixed} {moving} -it {matrix} {metric} -o {warp}")


def dense(fixed, moving, out, given):
    """The warp comes first, on the fixed grid, in LPS mm; then the alignment, a 4×4 matrix in RAS mm."""
    flip = np.diag([-1.0, -1.0, 1.0, 1.0])
    matrix = flip @ np.loadtxt(out / "alignment.mat") @ flip
    affine = sitk.AffineTransform(3)
    affine.SetMatrix(matrix[:3, :3].ravel().tolist())
    affine.SetTranslation(matrix[:3, 3].tolist())
    warp = sitk.DisplacementFieldTransform(sitk.ReadImage(str(out / "warp.nii.gz"), sitk.sitkVectorFloat64))
    return sitk.CompositeTransform([affine, warp])


if __name__ == "__main__":
    main(register, dense, options)
