"""convexAdam (MIND-SSC, its authors' defaults) after an alignment by SimpleITK, because it expects aligned images.

Affine, or rigid for two images of one subject: there mutual information may stretch a thin stack of slices.
"""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk
import torch
from convexAdam.convex_adam_MIND import convex_adam_pt

from .common import main, threads


def options(parser):
    parser.add_argument("--align", choices=("rigid", "affine"), default="affine")


def register(fixed, moving, out, given):
    torch.set_num_threads(threads())
    target, source = (sitk.ReadImage(str(path), sitk.sitkFloat32) for path in (fixed, moving))
    kind = {"rigid": sitk.Euler3DTransform(), "affine": sitk.AffineTransform(3)}[given.align]
    alignment = aligned(target, source, kind)
    sitk.WriteTransform(alignment, str(out / "alignment.tfm"))
    # Voxels of the fixed grid, components in the order of the array's axes; moving is read at voxel + displacement.
    voxels = convex_adam_pt(
        target, sitk.Resample(source, target, alignment, sitk.sitkLinear), device=torch.device("cpu")
    )
    np.save(out / "voxels.npy", voxels.astype(np.float32))


def aligned(target: sitk.Image, source: sitk.Image, kind: sitk.Transform) -> sitk.Transform:
    """Moments, then a transform like ``kind`` by mutual information over three levels."""
    start = sitk.CenteredTransformInitializer(target, source, kind, sitk.CenteredTransformInitializerFilter.MOMENTS)
    method = sitk.ImageRegistrationMethod()
    method.SetNumberOfThreads(threads())
    method.SetInitialTransform(start, inPlace=False)
    method.SetMetricAsMattesMutualInformation(32)
    method.SetMetricSamplingStrategy(method.REGULAR)
    method.SetMetricSamplingPercentage(0.1)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(1.0, 1e-4, 200, relaxationFactor=0.6)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel([4, 2, 1])
    method.SetSmoothingSigmasPerLevel([4, 2, 0])
    return method.Execute(target, source)


def dense(fixed, moving, out, given):
    reference = sitk.ReadImage(str(fixed))
    axes = np.array(reference.GetDirection()).reshape(3, 3) * reference.GetSpacing()
    millimetres = np.load(out / "voxels.npy")[..., ::-1].astype(np.float64) @ axes.T
    field = sitk.GetImageFromArray(millimetres, isVector=True)
    field.CopyInformation(reference)
    alignment = sitk.ReadTransform(str(out / "alignment.tfm"))
    return sitk.CompositeTransform([alignment, sitk.DisplacementFieldTransform(field)])


if __name__ == "__main__":
    main(register, dense, options)
