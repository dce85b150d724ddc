"""What is missing before a pair can be fused, and the request that is sent when nothing is."""

from __future__ import annotations

from importlib.util import find_spec

from regnet.errors import RegNetError
from regnet.models.bsafusion import VOLUMES, info
from regnet.zoo import find_weights
from slicer.i18n import tr as _

from . import conversion
from .colours import colours_of
from .inputs import is_flat, problem_of_pair, written
from .result_nodes import is_own_result

MODEL_TITLE = info.title


def what_is_missing_to_fuse(parameters) -> str:
    """One sentence that says why the pair cannot be fused; empty when it can. Cheap: called at every change."""
    problem = problem_of_pair(parameters.fixedVolume, parameters.movingVolume)
    if problem:
        return problem
    if find_spec("torch") is None:
        return _("Fusing needs PyTorch, which is installed, after asking, by the first registration; press Apply.")
    try:
        return "" if _mode(parameters) else _what_weights_are_missing(parameters)
    except RegNetError as error:
        return str(error)


def seen_through(parameters):
    """The transform node that puts the moving volume onto the fixed one: the one it is under, or, where results are not
    applied to it, the panel's result. None for none."""
    moving, result = parameters.movingVolume, parameters.resultTransform
    if not parameters.applyToMoving and result is not None and is_own_result(result, moving):
        return result
    return moving.GetParentTransformNode()


def build_fuse_request(parameters, folder) -> dict:
    """Write the images into ``folder`` and describe the fusion, as the worker's protocol has it (LPS everywhere)."""
    fixed, moving, parent = parameters.fixedVolume, parameters.movingVolume, seen_through(parameters)
    target = conversion.volume_to_array(fixed, fixed.GetParentTransformNode())
    request = {
        "command": "fuse",
        "fixed": written(target, "fixed", folder),
        "colours": colours_of(moving),
        "weights": parameters.fuseWeights.value,
        "mode": _mode(parameters),
        "device": parameters.device.value,
    }
    if parent is None or parent.IsTransformToWorldLinear():
        return {**request, "moving": written(conversion.volume_to_array(moving, parent), "moving", folder)}
    # The worker resamples: through a dense transform that takes long, and the window is to stay alive.
    return {
        **request,
        "moving": written(conversion.volume_to_array(moving), "moving", folder),
        "displacement": written(conversion.displacement_through(parent, target), "field", folder),
    }


def _mode(parameters) -> str:
    """How the installed weights can fuse the pair; empty if they cannot."""
    planes = find_weights(info.name, parameters.fuseWeights.value) is not None
    if is_flat(parameters.fixedVolume):
        return "auto" if planes else ""
    if find_weights(info.name, VOLUMES) is None:
        return "slices" if planes else ""
    return "auto" if planes else "volume"


def _what_weights_are_missing(parameters) -> str:
    text = _(
        "Fusing needs the trained weights “{weights}” of {model}, which are not installed; choose or install others."
    )
    return text.format(weights=parameters.fuseWeights.value, model=MODEL_TITLE)
