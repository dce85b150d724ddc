"""What is missing before a result can be corrected, and the request that is sent when nothing is."""

from __future__ import annotations

from slicer.i18n import tr as _

from . import conversion
from .correct_points import Pair
from .inputs import problem_of_pair, written
from .propagation_placing import problem_of_place
from .region_inputs import marked_array
from .segment_choice import present_segment, segment_identities
from .transform_steps import SentTransform


def what_is_missing_to_correct(parameters, pairs: list[Pair]) -> str:
    """One sentence that says why nothing can be corrected; empty when it can. Cheap: called at every change."""
    return what_is_missing_to_place(parameters) or _problem_of_marks(parameters, pairs)


def what_is_missing_to_place(parameters) -> str:
    """One sentence that says why no points can be placed; empty when they can."""
    problem = problem_of_pair(parameters.fixedVolume, parameters.movingVolume)
    if not problem and parameters.resultTransform is None:
        problem = _("There is no result to correct; register first, or choose a transform as the output transform.")
    return problem


def chosen_segment(parameters) -> str:
    """The identity of the segment that shows the region; empty for none."""
    node = parameters.correctSegmentation
    return present_segment(node, parameters.correctSegment) or next(iter(segment_identities(node)), "")


def build_correct_request(parameters, pairs: list[Pair], folder) -> tuple[dict, SentTransform]:
    """Write the images, the transform and the region into ``folder`` and describe the correction, as the worker's
    protocol has it (LPS everywhere); and the present transform as it was sent.

    Raises:
        ValueError: the region has no voxels, with one sentence for the user.
    """
    fixed, moving, reach = parameters.fixedVolume, parameters.movingVolume, parameters.correctReach
    target = conversion.volume_to_array(fixed, fixed.GetParentTransformNode())
    transform = SentTransform(parameters.resultTransform, target)
    points = [conversion.flipped_points([getattr(pair, side) for pair in pairs]) for side in ("fixed", "moving")]
    request = {
        "command": "correct",
        "fixed": written(target, "fixed", folder),
        # In its own coordinates: there the present transform leads.
        "moving": written(conversion.volume_to_array(moving), "moving", folder),
        "transforms": transform.sent(folder),
        "fixed_points": points[0].tolist(),
        "moving_points": points[1].tolist(),
        "region": _region(parameters, folder),
        "mode": parameters.correctMode.value,
        "reach": reach if reach > 0.0 else None,
        "images": True if chosen_segment(parameters) else parameters.correctImages,
        "similarity": parameters.correctSimilarity.value,
        "device": parameters.device.value,
    }
    return request, transform


def _problem_of_marks(parameters, pairs: list[Pair]) -> str:
    node = parameters.correctSegmentation
    if node is not None and not chosen_segment(parameters):
        text = _("Segmentation “{name}” has no segment; paint one, or choose no region.")
        return text.format(name=node.GetName())
    if node is not None:
        return problem_of_place(node, node.GetParentTransformNode())
    return "" if pairs else _("Add a pair of points, or choose a region where the volumes have to fit.")


def _region(parameters, folder) -> dict | None:
    identity = chosen_segment(parameters)
    if not identity:
        return None
    inside = marked_array(parameters.correctSegmentation, identity, parameters.fixedVolume, _("Region"))
    region = written(inside, "region", folder)
    return {**region, "ndim": 2 if parameters.fixedVolume.GetImageData().GetDimensions()[2] == 1 else 3}
