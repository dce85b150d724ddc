"""The part of the panel that says where: a region of interest, its taper, and which segments the masks are."""

from __future__ import annotations

from pathlib import Path

import qt
import slicer
import vtk
from slicer.i18n import tr as _
from slicer.util import VTKObservationMixin

from .connections import Connections
from .region_box import add_box
from .segment_choice import SegmentChoice

REGION_UI = Path(__file__).resolve().parent.parent / "Resources" / "UI" / "RegNetRegion.ui"
SEGMENTS = {"region": "regionSegment", "fixedMask": "fixedMaskSegment", "movingMask": "movingMaskSegment"}
"""Parameter that may be a segmentation -> the one that names its segment, after which its list is called."""


class RegionSection(VTKObservationMixin):
    """The region of interest of the panel's registration.

    Args:
        ui: the panel's widgets; those of the section are added to them.
        get_parameters: gives the panel's parameter node, or None between scenes.
        on_changed: called without arguments, and not at once, when a chosen box or segmentation has changed.

    ``widget`` is to be put into the panel.
    """

    def __init__(self, ui, get_parameters, on_changed) -> None:
        VTKObservationMixin.__init__(self)
        self._ui, self._get_parameters = ui, get_parameters
        self._watched: list = []
        self._later = qt.QTimer()  # a box that is dragged changes many times before anybody looks
        self._later.setSingleShot(True)
        self._later.setInterval(0)
        self.widget = slicer.util.loadUI(str(REGION_UI))
        vars(ui).update(vars(slicer.util.childWidgetVariables(self.widget)))
        ui.regionSection = self.widget
        ui.regionSelector.setMRMLScene(slicer.mrmlScene)
        everything = _("All segments")
        self._choices = {
            name: SegmentChoice(getattr(ui, f"{segment}ComboBox"), self._setter(segment), everything)
            for name, segment in SEGMENTS.items()
        }
        self._connections = Connections()
        self._connections.add(ui.newBoxButton, "clicked()", self.on_new_box)
        self._connections.add(self._later, "timeout()", on_changed)

    def close(self) -> None:
        self._watch([])
        self._later.stop()
        self._connections.close()
        for choice in self._choices.values():
            choice.close()

    def refresh(self) -> None:
        parameters, ui = self._get_parameters(), self._ui
        nodes = {name: getattr(parameters, name) if parameters is not None else None for name in SEGMENTS}
        self._watch([node for node in nodes.values() if node is not None])
        for name, choice in self._choices.items():
            choice.show(nodes[name], getattr(parameters, SEGMENTS[name]) if parameters is not None else "")
        fixed = parameters.fixedVolume if parameters is not None else None
        ui.newBoxButton.enabled = fixed is not None and fixed.GetImageData() is not None
        ui.regionTaperSpinBox.enabled = parameters is not None and parameters.region is not None

    def on_new_box(self) -> None:
        parameters = self._get_parameters()
        parameters.region = add_box(parameters.fixedVolume)

    def _watch(self, nodes: list) -> None:
        """Follow what these nodes show, and no others."""
        if nodes == self._watched:
            return
        self.removeObservers()
        for node in nodes:
            self.addObserver(node, vtk.vtkCommand.ModifiedEvent, self._on_modified)
            if node.IsA("vtkMRMLMarkupsROINode"):
                self.addObserver(node, node.PointModifiedEvent, self._on_modified)
            elif node.IsA("vtkMRMLSegmentationNode"):
                segmentation = node.GetSegmentation()
                for event in (segmentation.SegmentAdded, segmentation.SegmentRemoved, segmentation.SegmentModified):
                    self.addObserver(segmentation, event, self._on_modified)
        self._watched = nodes

    def _on_modified(self, *_arguments) -> None:
        self._later.start()

    def _setter(self, segment: str):
        def chosen(identity: str) -> None:
            setattr(self._get_parameters(), segment, identity)

        return chosen
