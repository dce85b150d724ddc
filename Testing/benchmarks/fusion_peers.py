"""The methods of the fusion benchmark, and the process that measures one of them on many cases.

    python fusion_peers.py METHOD DEVICE FOLDER...

Every FOLDER holds ``case.npz`` as ``fusion.py`` writes it; into FOLDER/METHOD go ``result.json``, ``field.npy`` and,
from a method that fuses, ``fused.npy``. One process does all cases, after a warm-up on the first that does not count;
so a time is that of the call alone, from images in memory, in the program's own form, to its transform. Threads are
those of the environment (``runner.environment``).

Images have pixels of 1 mm and the usual axes, x along the columns. The peers compare Mattes' mutual information, as far
as the moving image shows something, and start from the images as they lie. Their settings were chosen on tuning cases:
without masks, with an affine instead of the rigid stage, with finer splines, or less stiff, they erred more.
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

import fusion_cases  # noqa: E402
import fusion_warps  # noqa: E402
import machine  # noqa: E402
import numpy as np  # noqa: E402
import runner  # noqa: E402
from scipy import ndimage  # noqa: E402

PEERS = {
    "identity": "no registration",
    "simpleitk": "SimpleITK: rigid, then a B-spline of 4 meshes a side, L-BFGS",
    "elastix": "itk-elastix: default rigid, then B-spline with 64 px between nodes and a bending weight of 200",
    "ants": "antspyx: `Rigid` on all pixels, then `SyNOnly` with a total sigma of 3, without its finest level",
}
PACKAGES = {"simpleitk": "SimpleITK", "elastix": "itk", "ants": "ants"}
NETWORK = "-network"
MODELS = {
    "regnet-bsafusion": "`regnet register --model bsafusion`, defaults, with the weights of the modality",
    "regnet-bsafusion-network": "the same with `--refine off`: what the network predicts in one pass",
    "regnet-masr": "`regnet register --model masr`, defaults; in planes it compares by MIND-SSC, which is not learned",
    "regnet-deformgan": "`regnet register --model deformgan`, defaults; its weights for planes know contrasts of MR",
}
WEIGHTS = {"ct": "ct-mri", "pet": "pet-mri", "spect": "spect-mri", "trunk": "pet-mri", "mr": "ct-mri"}
"""Of BSAFusion, by the modality of a case; the last two are not of heads, or not of two modalities."""


class Method(NamedTuple):
    """``images`` and ``field`` are not timed; ``register`` takes what ``images`` gives, ``field`` what it returns.

    ``images`` takes the fixed and the moving image (H, W) and the case's modality. ``field`` gives the displacement
    (2, H, W) in pixels, rows first, and ``fused`` (H, W) or None.
    """

    images: Callable[[np.ndarray, np.ndarray, str], Any]
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

    def images(fixed: np.ndarray, moving: np.ndarray, _: str) -> tuple:
        return tuple(sitk.GetImageFromArray(image) for image in (*_singles(fixed, moving), shown(moving)))

    def stage(mask: sitk.Image) -> sitk.ImageRegistrationMethod:
        method = sitk.ImageRegistrationMethod()
        method.SetMetricAsMattesMutualInformation(32)
        method.SetMetricMovingMask(mask)
        method.SetInterpolator(sitk.sitkLinear)
        return method

    def register(images: tuple) -> sitk.Transform:
        fixed, moving, mask = images
        rigid = sitk.Euler2DTransform()
        rigid.SetCenter(fixed.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in fixed.GetSize()]))
        first = stage(mask)
        first.SetShrinkFactorsPerLevel([4, 2, 1])
        first.SetSmoothingSigmasPerLevel([2, 1, 0])
        first.SetOptimizerAsRegularStepGradientDescent(1.0, 1e-3, 200, 0.6, gradientMagnitudeTolerance=1e-6)
        first.SetOptimizerScalesFromPhysicalShift()
        first.SetInitialTransform(rigid, inPlace=True)
        first.Execute(fixed, moving)
        spline = sitk.BSplineTransformInitializer(fixed, [4, 4], 3)
        second = stage(mask)
        second.SetMetricSamplingStrategy(second.RANDOM)
        second.SetMetricSamplingPercentage(0.3, 1)
        second.SetSmoothingSigmasPerLevel([1])
        second.SetShrinkFactorsPerLevel([1])
        second.SetMovingInitialTransform(rigid)
        second.SetInitialTransform(spline, inPlace=True)
        second.SetOptimizerAsLBFGS2(solutionAccuracy=1e-5, numberOfIterations=100, deltaConvergenceTolerance=1e-4)
        second.Execute(fixed, moving)
        return sitk.CompositeTransform([rigid, spline])

    return Method(images, register, _sitk_field)


def _elastix() -> Method:
    import itk
    import SimpleITK as sitk
    from peers.elastix import read

    def images(fixed: np.ndarray, moving: np.ndarray, _: str) -> tuple:
        return tuple(itk.image_from_array(image) for image in (*_singles(fixed, moving), shown(moving)))

    def register(images: tuple) -> sitk.Transform:
        fixed, moving, mask = images
        parameters = itk.ParameterObject.New()
        for kind in ("rigid", "bspline"):
            parameters.AddParameterMap(parameters.GetDefaultParameterMap(kind, 3, 64.0))
        parameters.SetParameter(1, "Metric1Weight", "200")  # of the bending energy
        parameters.SetParameter("WriteResultImage", "false")
        parameters.SetParameter(0, "AutomaticTransformInitialization", "false")
        # Samples come from the whole fixed image, and PET shows a quarter of that.
        parameters.SetParameter("RequiredRatioOfValidSamples", "0.05")
        with tempfile.TemporaryDirectory() as folder:
            # Threads come from the environment: with number_of_threads as well, itk-elastix 0.25 may crash.
            itk.elastix_registration_method(
                fixed,
                moving,
                parameter_object=parameters,
                moving_mask=mask,
                output_directory=folder,
                log_to_console=False,
            )
            first, second = (read(Path(folder) / f"TransformParameters.{i}.txt") for i in range(2))
        rigid, spline = sitk.Euler2DTransform(), sitk.BSplineTransform(2, 3)
        rigid.SetCenter(first["CenterOfRotationPoint"])
        rigid.SetParameters(first["TransformParameters"])
        # elastix writes the columns of the direction matrix, ITK keeps its rows.
        rows = np.reshape(second["GridDirection"], (2, 2)).T.ravel().tolist()
        spline.SetFixedParameters([*second["GridSize"], *second["GridOrigin"], *second["GridSpacing"], *rows])
        spline.SetParameters(second["TransformParameters"])
        return sitk.CompositeTransform([spline, rigid])

    return Method(images, register, _sitk_field)


def _ants() -> Method:
    import ants
    import SimpleITK as sitk

    def images(fixed: np.ndarray, moving: np.ndarray, _: str) -> tuple:
        # The first axis of these arrays is x.
        return tuple(
            ants.from_numpy(np.ascontiguousarray(image.T)) for image in (*_singles(fixed, moving), shown(moving))
        )

    def register(images: tuple) -> sitk.Transform:
        fixed, moving, mask = images
        shared = {"moving_mask": mask, "mask_all_stages": True, "random_seed": 1}
        with tempfile.TemporaryDirectory() as folder:
            rigid = ants.registration(
                fixed,
                moving,
                type_of_transform="Rigid",
                initial_transform="identity",
                aff_metric="mattes",
                aff_iterations=(500, 500, 200),
                aff_shrink_factors=(4, 2, 1),
                aff_smoothing_sigmas=(2, 1, 0),
                aff_random_sampling_rate=1.0,
                outprefix=f"{folder}/rigid",
                **shared,
            )["fwdtransforms"][0]
            ants.registration(
                fixed,
                moving,
                type_of_transform="SyNOnly",
                initial_transform=rigid,
                syn_metric="mattes",
                syn_sampling=32,
                reg_iterations=(100, 70, 0),
                total_sigma=3,
                outprefix=f"{folder}/syn",
                **shared,
            )
            warp = sitk.ReadImage(f"{folder}/syn1Warp.nii.gz", sitk.sitkVectorFloat64)
            return sitk.CompositeTransform([sitk.ReadTransform(rigid), sitk.DisplacementFieldTransform(warp)])

    return Method(images, register, _sitk_field)


def _regnet(name: str, device: str) -> Method:
    from regnet import register
    from regnet.fusing import fuse
    from regnet.image import Image
    from regnet.zoo import find_weights

    model = name.removesuffix(NETWORK)
    refine = "off" if name.endswith(NETWORK) else "auto"

    def images(fixed: np.ndarray, moving: np.ndarray, modality: str) -> tuple:
        variant = WEIGHTS[modality] if model == "bsafusion" else None
        if variant and find_weights(model, variant) is None:  # it would register without them
            raise RuntimeError(f"the weights {variant} of {model} are not installed")
        return *(Image.from_numpy(image[None], np.eye(4), ndim=2) for image in (fixed, moving)), variant

    def run(images: tuple):
        *pair, variant = images
        # Fused afterwards, since no peer does that in the time that is measured.
        parameters = {"weights": variant, "fusion": "off"} if variant else {}
        found = register(*pair, model=model, refine=refine, parameters=parameters, device=device)
        return found.transform, images

    def field(found: tuple, shape: tuple[int, int]) -> np.ndarray:
        transform, _ = found
        rows, columns = fusion_warps.lattice(shape)
        points = np.stack([columns, rows, np.zeros(shape)], axis=-1).reshape(-1, 3)
        moved = (transform(points) - points)[:, 1::-1]
        return moved.T.reshape(2, *shape)

    def fused(found: tuple) -> np.ndarray | None:
        transform, (fixed, moving, variant) = found
        if variant is None:
            return None
        return fuse(fixed, moving, transform, weights=variant, device=device).image.data[0, 0].double().cpu().numpy()

    return Method(images, run, field, fused)


def shown(moving: np.ndarray) -> np.ndarray:
    """1 on the head in the moving image and 3 pixels around it, else 0: what the peers compare. They err less so."""
    return ndimage.binary_dilation(fusion_cases.foreground(moving), iterations=3).astype(np.uint8)


def _singles(*images: np.ndarray) -> list[np.ndarray]:
    return [np.ascontiguousarray(image, np.float32) for image in images]


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
        images = method.images(fixed, moving, case["modality"])
        if not warm:
            method.register(images)
        load, started, worked = os.getloadavg()[0], time.perf_counter(), time.process_time()
        found = method.register(images)
        cost = {"wall_s": time.perf_counter() - started, "cpu_s": time.process_time() - worked, "load": load}
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
    return {**result, "ok": True, "score": score, "cost": cost}


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
