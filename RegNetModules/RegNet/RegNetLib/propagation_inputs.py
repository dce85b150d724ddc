"""What is missing before segments can be carried: one sentence, or nothing. Cheap: asked at every change."""

from __future__ import annotations

from slicer.i18n import tr as _

from .inputs import is_flat, problem_of_pair
from .propagation_placing import placing, problem_of_drawing, problem_of_place, target_parent
from .propagation_sequence import problem_of_sequence, proxy_of, sequence_of_proxy


def what_is_missing_to_propagate(parameters) -> str:
    """One sentence that says why nothing can be carried; empty when it can be."""
    check = _problem_of_frames if parameters.is_along_sequence() else _problem_of_volumes
    return _problem_of_source(parameters) or check(parameters) or _problem_of_reference(parameters)


def _problem_of_source(parameters) -> str:
    scan, segmentation = parameters.scan, parameters.segmentation
    if parameters.is_along_sequence():
        problem = problem_of_sequence(parameters.sequence)
        if problem:
            return problem
    elif scan is None:
        return _("Choose the scan that was segmented.")
    elif problem := _problem_of_image(scan):
        return problem
    if segmentation is None:
        return _("Choose the segmentation to carry.")
    if not segmentation.GetSegmentation().GetNumberOfSegments():
        return _("Segmentation “{name}” has no segments; choose another one.").format(name=segmentation.GetName())
    if not parameters.chosen_segments():
        return _("Tick at least one segment.")
    return ""


def _problem_of_volumes(parameters) -> str:
    scan, targets = parameters.scan, parameters.targets()
    if not targets:
        return _("Tick at least one target.")
    transform = parameters.transform if parameters.uses_transform() else None
    if parameters.uses_transform() and transform is None:
        return _("Choose the transform that leads from the scan to the targets.")
    if not parameters.uses_transform():
        problem = problem_of_place(scan, placing(scan, scan))
    elif parameters.backwards:
        problem = problem_of_place(scan, scan.GetParentTransformNode())
    else:
        problem = ""
    problem = problem or problem_of_drawing(parameters.segmentation, scan, transform)
    for target in targets:
        problem = problem or _problem_of_target(parameters, target)
    return problem


def _problem_of_target(parameters, target) -> str:
    scan = parameters.scan
    if not parameters.uses_transform():
        return problem_of_pair(target, scan) or problem_of_place(target, target_parent(target))
    problem = _problem_of_image(target)
    if not problem and is_flat(target) != is_flat(scan):
        problem = _("One volume is a single slice and the other is not; choose two of the same dimension.")
    if not problem and not parameters.backwards:
        problem = problem_of_place(target, target_parent(target))
    return problem


def _problem_of_image(volume) -> str:
    image = volume.GetImageData()
    if image is None or image.GetNumberOfPoints() == 0:
        return _("Volume “{name}” is empty; choose one that holds an image.").format(name=volume.GetName())
    return ""


def _problem_of_frames(parameters) -> str:
    sequence, proxy = parameters.sequence, proxy_of(parameters.sequence)
    count = sequence.GetNumberOfDataNodes()
    if parameters.frame >= count:
        text = _("There is no frame {frame} in “{name}”; its frames are 0 to {last}.")
        return text.format(frame=parameters.frame, name=sequence.GetName(), last=count - 1)
    if proxy is None:
        return problem_of_place(parameters.segmentation, parameters.segmentation.GetParentTransformNode())
    return problem_of_place(proxy, proxy.GetParentTransformNode()) or problem_of_drawing(parameters.segmentation, proxy)


def _problem_of_reference(parameters) -> str:
    reference, segmentation = parameters.reference, parameters.segmentation
    if reference is None:
        return ""
    if reference is segmentation:
        return _("The reference is the segmentation that is carried; choose one of the target, or none.")
    name = reference.GetName()
    if parameters.is_along_sequence():
        if sequence_of_proxy(reference) is None:
            text = _("Reference “{name}” belongs to no sequence; choose one with a segmentation per frame, or none.")
            return text.format(name=name)
    elif len(parameters.targets()) > 1:
        return _("The reference is of one target; tick that one only, or choose no reference.")
    else:
        problem = problem_of_drawing(reference, parameters.targets()[0])
        if problem:
            return problem
    wanted, found = segmentation.GetSegmentation(), reference.GetSegmentation()
    names = {wanted.GetSegment(identity).GetName() for identity in parameters.chosen_segments()}
    if not any(found.GetSegment(identity).GetName() in names for identity in found.GetSegmentIDs()):
        return _("Reference “{name}” has none of the ticked segments; their names have to agree.").format(name=name)
    return ""
