"""elastix through itk-elastix: its default rigid, then its default affine registration, Mattes mutual information."""

from __future__ import annotations

import SimpleITK as sitk

from .elastix import read
from .linear import Clock, main, matrix_of

TRANSFORMS = {"rigid": lambda: sitk.Euler3DTransform(), "affine": lambda: sitk.AffineTransform(3)}


def find(fixed, moving, out, given):
    import itk

    images = [itk.imread(str(path), itk.F) for path in (fixed, moving)]
    parameters = itk.ParameterObject.New()
    for kind in TRANSFORMS:
        parameters.AddParameterMap(parameters.GetDefaultParameterMap(kind))
    parameters.SetParameter("Metric", "AdvancedMattesMutualInformation")
    parameters.SetParameter(0, "AutomaticTransformInitialization", "true")
    parameters.SetParameter(0, "AutomaticTransformInitializationMethod", "CenterOfGravity")
    parameters.SetParameter("WriteResultImage", "false")
    register = itk.elastix_registration_method  # its library is loaded here, before the clock starts
    itk.ElastixRegistrationMethod[type(images[0]), type(images[1])]
    clock = Clock()
    # Threads come from the environment: with number_of_threads as well, itk-elastix 0.25 may crash.
    register(*images, parameter_object=parameters, output_directory=str(out), log_to_console=False)
    clock.stop()
    matrices = [matrix_of(_transform(kind, out / f"TransformParameters.{i}.txt")) for i, kind in enumerate(TRANSFORMS)]
    return matrices[1] @ matrices[0], clock


def _transform(kind, file):
    entries, transform = read(file), TRANSFORMS[kind]()
    transform.SetParameters(entries["TransformParameters"])
    transform.SetCenter(entries["CenterOfRotationPoint"])
    return transform


if __name__ == "__main__":
    main(find)
