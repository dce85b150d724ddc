"""elastix through itk-elastix: its default affine, then its default B-spline parameters, mutual information."""

from __future__ import annotations

import itk
import numpy as np

from .common import main, threads


def register(fixed, moving, out, given):
    parameters = itk.ParameterObject.New()
    for kind in ("affine", "bspline"):
        parameters.AddParameterMap(parameters.GetDefaultParameterMap(kind))
    # Native spaces: without it the affine starts from wherever the headers put the two heads.
    parameters.SetParameter(0, "AutomaticTransformInitialization", "true")
    parameters.SetParameter(0, "AutomaticTransformInitializationMethod", "CenterOfGravity")
    parameters.SetParameter("WriteResultImage", "false")
    itk.elastix_registration_method(
        itk.imread(str(fixed), itk.F),
        itk.imread(str(moving), itk.F),
        parameter_object=parameters,
        number_of_threads=threads(),
        output_directory=str(out),
        log_to_console=False,
    )


def dense(fixed, moving, out, given):
    """transformix evaluates the chain; its last file names the one before it."""
    parameters = itk.ParameterObject.New()
    parameters.ReadParameterFiles([str(out / f"TransformParameters.{i}.txt") for i in range(2)])
    field = itk.transformix_deformation_field(itk.imread(str(moving), itk.F), parameters)
    return np.asarray(itk.array_view_from_image(field))


if __name__ == "__main__":
    main(register, dense)
