"""elastix through itk-elastix: its default affine or rigid, then its default B-spline, by mutual information."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from .common import main


def options(parser):
    parser.add_argument("--align", choices=("rigid", "affine"), default="affine")


def register(fixed, moving, out, given):
    import itk

    parameters = itk.ParameterObject.New()
    for kind in (given.align, "bspline"):
        parameters.AddParameterMap(parameters.GetDefaultParameterMap(kind))
    # Native spaces: without it the alignment starts from wherever the headers put the two heads.
    parameters.SetParameter(0, "AutomaticTransformInitialization", "true")
    parameters.SetParameter(0, "AutomaticTransformInitializationMethod", "CenterOfGravity")
    parameters.SetParameter("WriteResultImage", "false")
    # Threads come from the environment: with number_of_threads as well, itk-elastix 0.25 may crash.
    itk.elastix_registration_method(
        itk.imread(str(fixed), itk.F),
        itk.imread(str(moving), itk.F),
        parameter_object=parameters,
        output_directory=str(out),
        log_to_console=False,
    )


def dense(fixed, moving, out, given):
    """First the alignment, then the B-spline. (transformix would say the same, but may crash with few threads.)"""
    first, second = (read(out / f"TransformParameters.{i}.txt") for i in range(2))
    alignment = sitk.Euler3DTransform() if given.align == "rigid" else sitk.AffineTransform(3)
    alignment.SetParameters(first["TransformParameters"])
    alignment.SetCenter(first["CenterOfRotationPoint"])
    spline = sitk.BSplineTransform(3, 3)
    # elastix writes the columns of the direction matrix, ITK keeps its rows.
    rows = np.reshape(second["GridDirection"], (3, 3)).T.ravel().tolist()
    spline.SetFixedParameters([*second["GridSize"], *second["GridOrigin"], *second["GridSpacing"], *rows])
    spline.SetParameters(second["TransformParameters"])
    return sitk.CompositeTransform([spline, alignment])


def read(file: Path) -> dict[str, list[float]]:
    """The entries of an elastix transform file that hold numbers."""
    entries = re.findall(r"^\((\w+) ([-+.\deE ]+)\)$", file.read_text(), re.MULTILINE)
    return {name: [float(value) for value in values.split()] for name, values in entries}


if __name__ == "__main__":
    main(register, dense, options)
