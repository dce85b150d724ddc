"""Which segment of a segmentation is meant: a list beside the selector of the segmentation."""

from __future__ import annotations

from .connections import Connections


def segment_identities(node) -> list[str]:
    """Of a segmentation node, in order; of anything else, and of None, there are none."""
    if node is None or not node.IsA("vtkMRMLSegmentationNode"):
        return []
    return list(node.GetSegmentation().GetSegmentIDs())


def present_segment(node, identity: str) -> str:
    """``identity`` if the node has a segment of it, else empty."""
    return identity if identity in segment_identities(node) else ""


class SegmentChoice:
    """A QComboBox of the segments of a node, hidden where it has none.

    Args:
        box: the widget.
        on_chosen: called with the identity of the segment that the user chooses, empty for all of them.
        everything: the name of the entry for all segments, the first one; empty for none.
    """

    def __init__(self, box, on_chosen, everything: str = "") -> None:
        self._box, self._on_chosen, self._everything = box, on_chosen, everything
        self._identities: list[str] = []
        self._showing = False
        self._connections = Connections()
        self._connections.add(box, "currentIndexChanged(int)", self._on_index)

    def close(self) -> None:
        self._connections.close()

    def show(self, node, chosen: str) -> None:
        """List the segments of ``node``, which may be None, if they are others or have changed, with ``chosen``."""
        found, box = segment_identities(node), self._box
        names = [node.GetSegmentation().GetSegment(identity).GetName() or identity for identity in found]
        if found and self._everything:
            found, names = ["", *found], [self._everything, *names]
        self._showing = True
        try:
            if found != self._identities or names != [box.itemText(number) for number in range(box.count)]:
                box.clear()
                box.addItems(names)
                self._identities = found
            if found:
                box.currentIndex = found.index(chosen) if chosen in found else 0
        finally:
            self._showing = False
        box.enabled = box.visible = bool(found)

    def _on_index(self, number: int) -> None:
        if not self._showing and 0 <= number < len(self._identities):
            self._on_chosen(self._identities[number])
