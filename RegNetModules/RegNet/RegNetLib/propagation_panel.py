"""The panel that carries a segmentation from one scan to others, or along a sequence."""

from __future__ import annotations

import json

import qt
import slicer
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleLogic

from .connections import Connections
from .model_section import ModelSection
from .propagation_list import Row, TickList
from .propagation_parameters import PropagationParameterNode
from .propagation_placing import leads_backwards
from .propagation_results import ResultTable
from .propagation_section import PropagationSection
from .propagation_sequence import shown_frame
from .scene_panel import ScenePanel

SEGMENT_EVENTS = ("SegmentAdded", "SegmentRemoved", "SegmentModified", "SegmentsOrderModified")


class PropagationLogic(ScriptedLoadableModuleLogic):
    """Keeps the panel's parameter node; the module derives its own, whose class name gives the node its name."""

    def getParameterNode(self) -> PropagationParameterNode:
        return PropagationParameterNode(super().getParameterNode())


class PropagationPanel(ScenePanel):
    """Base of the module's widget, which returns its logic and names its .ui file."""

    PANEL_UI = ""

    def panel_ui(self) -> str:
        return self.resourcePath(self.PANEL_UI)

    def make_sections(self, panel) -> None:
        self._watched = None
        self._chosen: dict[str, str] = {}
        self.segments = TickList(self.ui.segmentList, self._on_segments_ticked)
        self.targets = TickList(self.ui.targetList, self._on_targets_ticked)
        self.model = ModelSection(self.ui, self._get_parameters, choose=True)
        self.results = ResultTable(self.ui, self._get_parameters)
        self.run = PropagationSection(
            self.ui, self.client, self._get_parameters, self.model.chosen, self.results.show_new
        )
        self.connections = Connections()
        self.connections.add(self.ui.allSegmentsButton, "clicked()", self.on_all_segments)
        self.connections.add(self.ui.noSegmentsButton, "clicked()", self.on_no_segments)
        self.connections.add(self.ui.shownFrameButton, "clicked()", self.on_shown_frame)
        self._later = qt.QTimer()  # a node that was just added has no name yet
        self._later.setSingleShot(True)
        self._later.setInterval(0)
        self.connections.add(self._later, "timeout()", self.show_targets)
        scene = slicer.mrmlScene
        self.addObserver(scene, scene.NodeAddedEvent, self.on_nodes_changed)
        self.addObserver(scene, scene.NodeRemovedEvent, self.on_nodes_changed)

    def model_to_warm(self) -> str:
        return self.parameters.model

    def jobs(self) -> tuple:
        return (self.run,)

    def cleanup(self) -> None:
        if self.ui is not None:
            self._later.stop()
        super().cleanup()

    def close_sections(self) -> None:
        for part in (self.segments, self.targets, self.model, self.results, self.connections):
            part.close()

    def enter(self) -> None:
        super().enter()
        self._on_parameters_modified()  # names may have changed meanwhile, packages installed

    def on_nodes_changed(self, *_arguments) -> None:
        self._later.start()

    def on_all_segments(self) -> None:
        self.segments.tick_all(True)

    def on_no_segments(self) -> None:
        self.segments.tick_all(False)

    def on_shown_frame(self) -> None:
        """The segmented frame is the one in the slice views."""
        if self.parameters is not None and self.parameters.sequence is not None:
            self.parameters.frame = shown_frame(self.parameters.sequence)

    def show_targets(self) -> None:
        """All volumes but the scan, to be ticked."""
        if self.parameters is None or slicer.mrmlScene.IsBatchProcessing():
            return
        ticked = {target.GetID() for target in self.parameters.targets()}
        volumes = [
            node
            for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
            if node.GetClassName() == "vtkMRMLScalarVolumeNode"
            and not node.GetHideFromEditors()
            and node is not self.parameters.scan
        ]
        self.targets.show([Row(node.GetID(), node.GetName(), node.GetID() in ticked) for node in volumes])
        self.results.refresh()

    def show_segments(self, *_arguments) -> None:
        """The segments of the chosen segmentation, to be ticked."""
        if self.parameters is None:
            return
        node, left_out = self.parameters.segmentation, self.parameters.left_out()
        rows = []
        if node is not None:
            segmentation = node.GetSegmentation()
            for identity in segmentation.GetSegmentIDs():
                segment = segmentation.GetSegment(identity)
                text = segment.GetName() or identity
                rows.append(Row(identity, text, identity not in left_out, tuple(segment.GetColor())))
        self.segments.show(rows)
        self.run.refresh()

    def _on_segments_ticked(self) -> None:
        if self.parameters is None or self.parameters.segmentation is None:
            return
        ticked = set(self.segments.ticked())
        ours = list(self.parameters.segmentation.GetSegmentation().GetSegmentIDs())
        self.parameters.leftOut = json.dumps([identity for identity in ours if identity not in ticked])

    def _on_targets_ticked(self) -> None:
        if self.parameters is not None:
            nodes = [slicer.mrmlScene.GetNodeByID(identity) for identity in self.targets.ticked()]
            self.parameters.set_targets([node for node in nodes if node is not None])

    def _begin_parameters(self) -> None:
        self._chosen = self._choices()

    def _refresh_sections(self) -> None:
        self._watch(None)
        self.segments.show([])
        self.targets.show([])
        self.run.refresh()
        self.results.refresh()

    def _watch(self, segmentation) -> None:
        """Follow the segments of the chosen segmentation."""
        if segmentation is self._watched:
            return
        for node, change in ((self._watched, self.removeObserver), (segmentation, self.addObserver)):
            if node is not None:
                for name in SEGMENT_EVENTS:
                    change(node, getattr(slicer.vtkSegmentation, name), self.show_segments)
        self._watched = segmentation

    def _choices(self) -> dict[str, str]:
        """What other settings follow when the user chooses another one."""
        nodes = {name: getattr(self.parameters, name) for name in ("segmentation", "sequence", "transform", "scan")}
        return {name: node.GetID() if node is not None else "" for name, node in nodes.items()}

    def _follow_choices(self) -> None:
        """A new segmentation is carried whole; of a new sequence the frame that is shown counts as the segmented one; a
        new transform says which way it leads."""
        before, self._chosen = self._chosen, self._choices()
        changed = {name for name, identity in self._chosen.items() if before.get(name) != identity}
        parameters = self.parameters
        if "segmentation" in changed and parameters.left_out():
            parameters.leftOut = "[]"
        if "sequence" in changed and parameters.sequence is not None:
            parameters.frame = shown_frame(parameters.sequence)
        if changed & {"transform", "scan"} and parameters.transform is not None:
            volumes = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
            parameters.backwards = leads_backwards(parameters.transform, parameters.scan, volumes)

    def _on_parameters_modified(self, *_arguments) -> None:
        if self.parameters is None:
            return
        self._follow_choices()
        parameters, ui = self.parameters, self.ui
        self.model.refresh()
        self._watch(parameters.segmentation)
        along, uses_transform = parameters.is_along_sequence(), parameters.uses_transform()
        for widgets, visible in (
            ((ui.scanLabel, ui.scanSelector, ui.targetList, ui.targetListLabel), not along),
            ((ui.mappingLabel, ui.mappingComboBox), not along),
            ((ui.sequenceLabel, ui.sequenceSelector, ui.frameLabel, ui.frameSpinBox), along),
            ((ui.shownFrameButton, ui.alongLabel, ui.alongComboBox), along),
            ((ui.transformLabel, ui.transformSelector, ui.backwardsCheckBox), uses_transform),
            ((ui.registrationFrame,), not uses_transform),
        ):
            for widget in widgets:
                widget.visible = visible
        ui.refineStepsSpinBox.enabled = parameters.refinement.value == "steps"
        ui.shownFrameButton.enabled = parameters.sequence is not None
        self.show_targets()
        self.show_segments()
        self.results.refresh()
