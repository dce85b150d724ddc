"""The methods of the fusion benchmark, and the process that measures one of them on many cases.

    python fusion_peers.py METHOD DEVICE FOLDER...

Every FOLDER holds ``case.npz`` as ``fusion.py`` writes it; into FOLDER/METHOD go ``result.json``, ``field.npy`` and,
from a method that fuses, ``fused.npy``. One process does all cases, after a warm-up on the first that does not count;
so a time is that of the call alone, from images in memory, in the program's own form, to its transform. Threads are
those of the environment (``runner.environment``).

Images have pixels of 1 mm and the usual axes, x along the columns. Affine parts start from the images as they lie.
"""

from __future__ import annotations

import datetime
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "RegNetModules" / "RegNet")]

import fusion_warps  # noqa: E402
import machine  # noqa: E402
import numpy as np  # noqa: E402
import runner  # noqa: E402

PEERS = {
    "identity": "no registration",
    "simpleitk": "SimpleITK: affine, then a B-spline of 4, 8 and 16 meshes a side; Mattes mutual information, L-BFGS-B",
    "elastix": "itk-elastix: affine, then B-spline with 16 px between nodes; Mattes mutual information",
    "ants": "antspyx `SyN`: affine, then diffeomorphic; Mattes mutual information",
}
PACKAGES = {"simpleitk": "SimpleITK", "elastix": "itk", "ants": "ants"}
NETWORK = "-network"


class Method(NamedTuple):
    """``images`` and ``field`` are not timed; ``register`` takes what ``images`` gives, ``field`` what it returns.

    ``field`` gives the displacement (2, H, W) in pixels, rows first, and ``fused`` (H, W) or None.
    """

    images: Callable[[np.ndarray, np.ndarray], Any]
    register: Callable[[Any], Any]
    field: Callable[[Any, tuple[int, int]], np.ndarray]
    fused: Callable[[Any], np.ndarray | None] = lambda found: None


def method(name: str, device: str = "cpu") -> Method:
    """A peer, or ``regnet-MODEL``, or ``regnet-MODEL-network`` for what the model gives without refinement."""
    if name.startswith("regnet-"):
        return _regnet(name.removeprefix("regnet-"), device)
    return {"identity": _identity, "simpleitk": _simpleitk, "elastix": _elastix, "ants": _ants}[name]()


def _identity() -> Method:
    return Method(lambda *_: None, lambda _: None, lambda _, shape: np.zeros((2, *shape)))


def _simpleitk() -> Method:
    import SimpleITK as sitk

    def stage(fixed: sitk.Image, shrink: list[int], smooth: list[float]) -> sitk.ImageRegistrationMethod:
        method = sitk.ImageRegistrationMethod()
        method.SetMetricAsMattesMutualInformation(32)
        method.SetMetricSamplingStrategy(method.NONE)
        method.SetInterpolator(sitk.sitkLinear)
        method.SetShrinkFactorsPerLevel(shrink)
        method.SetSmoothingSigmasPerLevel(smooth)
        return method

    def register(images: tuple[sitk.Image, sitk.Image]) -> sitk.Transform:
        fixed, moving = images
        middle = fixed.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in fixed.GetSize()])
        affine = sitk.AffineTransform(2)
        affine.SetCenter(middle)
        linear = stage(fixed, [4, 2, 1], [2, 1, 0])
        linear.SetOptimizerAsRegularStepGradientDescent(1.0, 1e-3, 200, relaxationFactor=0.6)
        linear.SetOptimizerScalesFromPhysicalShift()
        linear.SetInitialTransform(affine, inPlace=True)
        linear.Execute(fixed, moving)
        spline = sitk.BSplineTransformInitializer(fixed, [4, 4], 3)
        free = stage(fixed, [4, 2, 1], [2, 1, 0])
        free.SetMovingInitialTransform(affine)
        free.SetInitialTransformAsBSpline(spline, inPlace=True, scaleFactors=[1, 2, 4])
        free.SetOptimizerAsLBFGS2(solutionAccuracy=1e-6, numberOfIterations=100, deltaConvergenceTolerance=1e-5)
        free.Execute(fixed, moving)
        return sitk.CompositeTransform([affine, spline])

    return Method(_sitk_images, register, _sitk_field)


def _elastix() -> Method:
    import itk
    import SimpleITK as sitk
    from peers.elastix import read

    def images(fixed: np.ndarray, moving: np.ndarray) -> tuple:
        return tuple(itk.image_from_array(np.ascontiguousarray(image, np.float32)) for image in (fixed, moving))

    def register(images: tuple) -> sitk.Transform:
        parameters = itk.ParameterObject.New()
        for kind in ("affine", "bspline"):
            parameters.AddParameterMap(parameters.GetDefaultParameterMap(kind, 4, 16.0))
        parameters.SetParameter("WriteResultImage", "false")
        with tempfile.TemporaryDirectory() as folder:
            # Threads come from the environment: with number_of_threads as well, itk-elastix 0.25 may crash.
            itk.elastix_registration_method(
                *images, parameter_object=parameters, output_directory=folder, log_to_console=False
            )
            first, second = (read(Path(folder) / f"TransformParameters.{i}.txt") for i in range(2))
        affine, spline = sitk.AffineTransform(2), sitk.BSplineTransform(2, 3)
        affine.SetParameters(first["TransformParameters"])
        affine.SetCenter(first["CenterOfRotationPoint"])
        # elastix writes the columns of the direction matrix, ITK keeps its rows.
        rows = np.reshape(second["GridDirection"], (2, 2)).T.ravel().tolist()
        spline.SetFixedParameters([*second["GridSize"], *second["GridOrigin"], *second["GridSpacing"], *rows])
        spline.SetParameters(second["TransformParameters"])
        return sitk.CompositeTransform([spline, affine])

    return Method(images, register, _sitk_field)


def _ants() -> Method:
    import ants
    import SimpleITK as sitk

    def images(fixed: np.ndarray, moving: np.ndarray) -> tuple:
        # The first axis of these arrays is x.
        return tuple(ants.from_numpy(np.ascontiguousarray(image.T, np.float32)) for image in (fixed, moving))

    def register(images: tuple) -> sitk.Transform:
        with tempfile.TemporaryDirectory() as folder:
            ants.registration(
                *images,
                type_of_transform="SyN",
                aff_metric="mattes",
                syn_metric="mattes",
                syn_sampling=32,
                reg_iterations=(100, 70, 50),
                outprefix=f"{folder}/",
                random_seed=1,
            )
            affine = sitk.ReadTransform(f"{folder}/0GenericAffine.mat")
            warp = sitk.ReadImage(f"{folder}/1Warp.nii.gz", sitk.sitkVectorFloat64)
        return sitk.CompositeTransform([affine, sitk.DisplacementFieldTransform(warp)])

    return Method(images, register, _sitk_field)


def _regnet(name: str, device: str) -> Method:
    from regnet import register
    from regnet.image import Image

    def images(fixed: np.ndarray, moving: np.ndarray) -> tuple:
        return tuple(Image.from_numpy(image[None], np.eye(4), ndim=2) for image in (fixed, moving))

    def run(images: tuple):
        refine = "off" if name.endswith(NETWORK) else "auto"
        return register(*images, model=name.removesuffix(NETWORK), refine=refine, device=device)

    def field(found, shape: tuple[int, int]) -> np.ndarray:
        rows, columns = fusion_warps.lattice(shape)
        points = np.stack([columns, rows, np.zeros(shape)], axis=-1).reshape(-1, 3)
        moved = (found.transform(points) - points)[:, 1::-1]
        return moved.T.reshape(2, *shape)

    def fused(found) -> np.ndarray | None:
        if found.fused is None:
            return None
        data = found.fused.data[:, 0].double().cpu().numpy()
        return data[0] if len(data) == 1 else np.moveaxis(data[:3], 0, -1) @ np.array([0.299, 0.587, 0.114])

    return Method(images, run, field, fused)


def _sitk_images(fixed: np.ndarray, moving: np.ndarray) -> tuple:
    import SimpleITK as sitk

    return tuple(sitk.GetImageFromArray(image.astype(np.float32)) for image in (fixed, moving))


def _sitk_field(transform, shape: tuple[int, int]) -> np.ndarray:
    import SimpleITK as sitk

    size, identity = shape[::-1], (1.0, 0.0, 0.0, 1.0)
    field = sitk.TransformToDisplacementField(transform, sitk.sitkVectorFloat64, size, (0.0, 0.0), (1.0, 1.0), identity)
    return np.moveaxis(sitk.GetArrayFromImage(field), -1, 0)[::-1]


def measured(name: str, method: Method, folder: Path, warm: bool) -> dict:
    """The result of one case, its field and fused image on disk; what goes wrong is told in the result."""
    case = json.loads((folder / "case.json").read_text(encoding="utf-8"))
    result = {**case, "method": name, "ok": False, "date": datetime.date.today().isoformat()}
    result["versions"] = machine.versions()
    try:
        with np.load(folder / "case.npz") as stored:
            fixed, moving, truth, inside, both = (
                stored[key] for key in ("fixed", "deformed", "truth", "inside", "both")
            )
        images = method.images(fixed, moving)
        if not warm:
            method.register(images)
        load, started = os.getloadavg()[0], time.perf_counter()
        found = method.register(images)
        seconds = time.perf_counter() - started
        field, fused = method.field(found, fixed.shape), method.fused(found)
    except Exception as error:  # whatever a program raises is its result
        sentence = " ".join(str(error).split()) or type(error).__name__
        return {**result, "error": sentence[-300:]}
    score = fusion_warps.score(field, truth, inside, both)
    target = folder / name
    target.mkdir(exist_ok=True)
    np.save(target / "field.npy", field.astype(np.float32))
    if fused is not None:
        np.save(target / "fused.npy", fused.astype(np.float32))
    return {**result, "ok": True, "score": score, "cost": {"wall_s": seconds, "load": load}}


def main(name: str, device: str, folders: list[str]) -> None:
    chosen = method(name, device)
    if name.startswith("regnet-"):
        import torch

        torch.set_num_threads(int(os.environ["BENCH_THREADS"]))
    warm = name == "identity"
    for folder in map(Path, folders):
        (folder / name).mkdir(exist_ok=True)
        result = measured(name, chosen, folder, warm)
        warm = warm or result["ok"]
        runner.save(result, folder / name)
        print(told(result), flush=True)


def told(result: dict) -> str:
    """One line for the screen."""
    head = f"{result['name']:12} {result['kind']:9} {result['method']:24}"
    if not result["ok"]:
        return f"{head} failed: {result['error']}"
    score = result["score"]
    errors = f"error {score['mean_px']:5.2f} px of {score['before_px']:5.2f}  95 % {score['p95_px']:5.2f} px"
    return f"{head} {errors}  folding {score['folding_percent']:.2f} %  {result['cost']['wall_s']:.2f} s"


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
