"""greedy (picsl_greedy) by NMI: rigid from the best of many random starts about the image centres, then affine."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk
from picsl_greedy import Greedy3D

from .common import threads
from .linear import Clock, main


def options(parser):
    parser.add_argument("--metric", default="NMI", help="NMI, MI, or NCC with its radius, for example 'NCC 2x2x2'")
    parser.add_argument("--iterations", default="100x50x10", help="iterations per level, coarse to fine")
    parser.add_argument("--search", default="1000 20 20", help="random starts, deviation in degrees, and in mm")


def find(fixed, moving, out, given):
    images = {name: sitk.ReadImage(str(path)) for name, path in (("fixed", fixed), ("moving", moving))}
    shared = f"-i fixed moving -a -m {given.metric} -n {given.iterations} -threads {threads()} -V 0"
    rigid, affine = out / "rigid.mat", out / "affine.mat"
    greedy = Greedy3D()
    clock = Clock()
    greedy.execute(f"{shared} -dof 6 -ia-image-centers -search {given.search} -seed 1 -o {rigid}", **images)
    greedy.execute(f"{shared} -dof 12 -ia {rigid} -o {affine}", **images)
    clock.stop()
    flip = np.diag([-1.0, -1.0, 1.0, 1.0])  # its matrices are in RAS mm
    return flip @ np.loadtxt(affine) @ flip, clock


if __name__ == "__main__":
    main(find, options)
