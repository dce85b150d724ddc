"""What is missing before a registration can start, and the request that is sent when nothing is."""

from __future__ import annotations

from regnet.models import get_info
from slicer.i18n import tr as _

from . import conversion
from .colours import colours_of
from .region_inputs import marked_array, problem_of_region, region_array
from .result_nodes import RESULT_PARENT, is_own_result

MINIMUM_SIZE = 16


def what_is_missing(parameters) -> str:
    """One sentence that says why the registration cannot start; empty when it can. Cheap: called at every change."""
    return (
        problem_of_pair(parameters.fixedVolume, parameters.movingVolume)
        or _problem_of_outputs(parameters)
        or problem_of_region(parameters)
    )


def problem_of_pair(fixed, moving) -> str:
    """One sentence that says why the two volumes are no pair; empty when they are."""
    if fixed is None:
        return _("Choose a fixed volume.")
    if moving is None:
        return _("Choose a moving volume.")
    if fixed is moving:
        return _("The fixed and the moving volume are the same; choose two different ones.")
    for volume in (fixed, moving):
        problem = _problem_of(volume)
        if problem:
            return problem
    if is_flat(fixed) != is_flat(moving):
        return _("One volume is a single slice and the other is not; choose two of the same dimension.")
    return ""


def _problem_of_outputs(parameters) -> str:
    """The outputs must not be something that the inputs stand on."""
    fixed, moving = parameters.fixedVolume, parameters.movingVolume
    if parameters.createVolume and parameters.outputVolume is fixed:
        return _("The resampled volume would overwrite the fixed volume; choose another output volume.")
    if parameters.createVolume and parameters.outputVolume is moving:
        return _("The resampled volume would overwrite the moving volume; choose another output volume.")
    for volume, parent in ((fixed, fixed.GetParentTransformNode()), (moving, placing_parent(moving))):
        while parent is not None:
            if parent is parameters.resultTransform:
                return _("Transform “{name}” places volume “{volume}”; choose another output transform.").format(
                    name=parent.GetName(), volume=volume.GetName()
                )
            parent = parent.GetParentTransformNode()
    return ""


def _problem_of(volume) -> str:
    image, name = volume.GetImageData(), volume.GetName()
    if image is None or image.GetNumberOfPoints() == 0 or image.GetPointData().GetScalars() is None:
        return _("Volume “{name}” is empty; choose one that holds an image.").format(name=name)
    components = image.GetNumberOfScalarComponents()
    if components != 1:
        return _("Volume “{name}” has {count} channels; choose one with a single channel.").format(
            name=name, count=components
        )
    size = [n for n in image.GetDimensions() if n > 1] if is_flat(volume) else list(image.GetDimensions())
    if len(size) < 2 or min(size) < MINIMUM_SIZE:
        return _("Volume “{name}” has only {size} voxels; at least {minimum} are needed along each axis.").format(
            name=name, size=" × ".join(map(str, image.GetDimensions())), minimum=MINIMUM_SIZE
        )
    if conversion.is_constant(volume):
        return _("Volume “{name}” has the same value everywhere; choose one that shows something.").format(name=name)
    return ""


def is_flat(volume) -> bool:
    """Whether a volume is a single slice, which is registered in its plane."""
    return volume.GetImageData().GetDimensions()[2] == 1


def placing_parent(moving):
    """The transform node that places the moving volume in the world before registration.

    A moving volume that still wears the result of an earlier run is taken from where it was before that run.
    """
    parent = moving.GetParentTransformNode()
    while parent is not None and is_own_result(parent, moving):
        parent = parent.GetNodeReference(RESULT_PARENT)
    return parent


def build_request(parameters, model_parameters: dict, folder, images) -> dict:
    """Describe the run as the worker's protocol has it (LPS everywhere): the volumes among the sent ``images``, what
    else there is in ``folder``."""
    fixed, moving = parameters.fixedVolume, parameters.movingVolume
    return {
        "command": "register",
        "kept_folder": str(images.folder.path),
        "fixed": images.entry(fixed, fixed.GetParentTransformNode()),
        "moving": images.entry(moving, placing_parent(moving)),
        "fixed_mask": _mask(parameters.fixedMask, parameters.fixedMaskSegment, fixed, "fixed_mask", folder),
        "moving_mask": _mask(parameters.movingMask, parameters.movingMaskSegment, moving, "moving_mask", folder),
        "region": _region(parameters, folder),
        "taper": parameters.regionTaper,
        "model": parameters.model,
        "align": parameters.alignment.value,
        "refine": parameters.refine_option(),
        "parameters": model_parameters,
        "device": parameters.device.value,
        "seed": parameters.seed,
        "colours": colours_of(moving) if get_info(parameters.model).fuses else None,
    }


def without_pictures(model: str) -> dict:
    """The parameters by which a model leaves out the pictures that some make besides, where nobody asks for them."""
    info = get_info(model)
    return {"fusion": "off"} if info.fuses else {"translation": False} if info.translates else {}


def _mask(node, segment: str, volume, name: str, folder) -> dict | None:
    return _marked(marked_array(node, segment, volume, _("Mask")), volume, name, folder) if node is not None else None


def _region(parameters, folder) -> dict | None:
    region, fixed = region_array(parameters), parameters.fixedVolume
    return _marked(region, fixed, "region", folder) if region is not None else None


def _marked(image: conversion.ImageArray, volume, name: str, folder) -> dict:
    """A part of a volume that is one voxel thick is not flat for that."""
    return {**written(image, name, folder), "ndim": image.ndim if is_flat(volume) else 3}


def written(image: conversion.ImageArray, name: str, folder) -> dict:
    """Write an array into ``folder`` and describe it as the worker's protocol does."""
    return {
        "file": folder.save(name, image.array),
        "index_to_world": image.index_to_world.tolist(),
        "ndim": image.ndim,
    }
