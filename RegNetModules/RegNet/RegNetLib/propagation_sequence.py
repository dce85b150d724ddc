"""Sequences as Slicer has them: a sequence node of frames, a browser that shows one of them as a proxy node."""

from __future__ import annotations

import slicer
from slicer.i18n import tr as _

from .propagation_nodes import earlier_result, mark, result_name

SEQUENCE = "vtkMRMLSequenceNode"


def browser_of(sequence):
    """The browser that shows ``sequence``, None for none."""
    return slicer.modules.sequences.logic().GetFirstBrowserNodeForSequenceNode(sequence)


def proxy_of(sequence):
    """The node of the scene that stands for the frame that is shown, None for none."""
    browser = browser_of(sequence)
    return browser.GetProxyNode(sequence) if browser is not None else None


def shown_frame(sequence) -> int:
    browser = browser_of(sequence)
    return max(browser.GetSelectedItemNumber(), 0) if browser is not None else 0


def show_frame(sequence, number: int) -> None:
    browser = browser_of(sequence)
    if browser is not None:
        browser.SetSelectedItemNumber(number)


def frame_title(sequence, number: int) -> str:
    """Its number, and its index value where that says something else."""
    value = sequence.GetNthIndexValue(number)
    title = _("frame {number}").format(number=number)
    if value == str(number):
        return title
    return f"{title} ({' '.join(filter(None, [value, sequence.GetIndexUnit()]))})"


def problem_of_sequence(sequence) -> str:
    """One sentence that says why there is nothing to carry segments along; empty if there is."""
    if sequence is None:
        return _("Choose a sequence.")
    if sequence.GetDataNodeClassName() != "vtkMRMLScalarVolumeNode":
        text = _("Sequence “{name}” is none of volumes; choose another one.")
        return text.format(name=sequence.GetName())
    if sequence.GetNumberOfDataNodes() < 2:
        text = _("Sequence “{name}” has fewer than two frames; choose another one.")
        return text.format(name=sequence.GetName())
    return ""


def frame_of_reference(sequence, reference, number: int):
    """The frame of the reference segmentation, itself the proxy of a sequence, that belongs to a frame; or None."""
    others = sequence_of_proxy(reference)
    return others.GetDataNodeAtValue(sequence.GetNthIndexValue(number)) if others is not None else None


def sequence_of_proxy(node):
    """The sequence that ``node`` shows a frame of, None for none."""
    browser = slicer.modules.sequences.logic().GetFirstBrowserNodeForProxyNode(node)
    return browser.GetSequenceNode(node) if browser is not None else None


def fill_sequence(segmentation, sequence, filled: dict[int, object], report: dict):
    """A sequence of segmentations beside that of volumes, in the same browser: new, or that of an earlier run.

    Args:
        filled: number of the frame -> a segmentation node outside the scene; copies of them are kept.
    """
    node = earlier_result(segmentation, sequence, SEQUENCE)
    if node is None:
        node = slicer.mrmlScene.AddNewNodeByClass(SEQUENCE, result_name(segmentation, sequence))
    node.SetIndexName(sequence.GetIndexName())
    node.SetIndexUnit(sequence.GetIndexUnit())
    node.SetIndexType(sequence.GetIndexType())
    for number in sorted(filled):
        node.SetDataNodeAtValue(filled[number], sequence.GetNthIndexValue(number))
    mark(node, segmentation, sequence, report)
    _browse(sequence, node)
    return node


def _browse(sequence, result) -> None:
    """Show the result in step with its volumes, where these lie."""
    browser = browser_of(sequence)
    if browser is None:
        browser = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode", sequence.GetName())
        browser.SetAndObserveMasterSequenceNodeID(sequence.GetID())
    if not browser.IsSynchronizedSequenceNodeID(result.GetID(), True):
        browser.AddSynchronizedSequenceNodeID(result.GetID())
    # A frame without a result shows none; by default Slicer goes on showing that of the frame before.
    browser.SetMissingItemMode(result, browser.MissingItemSetToDefault)
    slicer.modules.sequences.logic().UpdateProxyNodesFromSequences(browser)
    proxy, volume = browser.GetProxyNode(result), browser.GetProxyNode(sequence)
    if proxy is not None and volume is not None:
        proxy.SetAndObserveTransformNodeID(volume.GetTransformNodeID())
        if proxy.GetDisplayNode() is None:
            proxy.CreateDefaultDisplayNodes()
