"""Looking at a result: fade, live checkerboard, live difference, fused, before and after, in linked slice views."""

from __future__ import annotations

import slicer

from .connections import Connections
from .deformation_grid import show_deformation_grid
from .fused_volume import fused_of
from .live_composite import Checkerboard, Difference, LiveComposite
from .live_preview import is_previewed
from .result_import import FIXED, MOVING, RESULT_PARENT
from .slice_views import slice_views

FADE, CHECKERBOARD, DIFFERENCE, FUSED = "fade", "checkerboard", "difference", "fused"


class ReviewSection:
    """Binds the Review section's widgets to the slice views.

    Composites are in the views only while the panel is open: :meth:`suspend` plugs the views' own images back in.

    Args:
        ui: the panel's widgets.
        get_parameters: gives the panel's parameter node, or None between scenes.
    """

    def __init__(self, ui, get_parameters) -> None:
        self._ui, self._get_parameters = ui, get_parameters
        self._composites: list[LiveComposite] = []
        self._boards: list[tuple[Checkerboard, object]] = []
        self._showing = False
        self._fused_id = ""
        self._connections = Connections()
        for widget, signal, slot in (
            (ui.fadeButton, "clicked()", self._on_mode),
            (ui.checkerboardButton, "clicked()", self._on_mode),
            (ui.differenceButton, "clicked()", self._on_mode),
            (ui.fusedButton, "clicked()", self._on_mode),
            (ui.fadeSlider, "valueChanged(double)", self._on_fade),
            (ui.tileSlider, "valueChanged(double)", self._on_tile),
            (ui.afterCheckBox, "toggled(bool)", self._on_after),
            (ui.linkCheckBox, "toggled(bool)", self._on_link),
            (ui.gridCheckBox, "toggled(bool)", self._on_grid),
            (ui.showPairButton, "clicked()", self.show_pair),
        ):
            self._connections.add(widget, signal, slot)
        self.refresh()

    def close(self) -> None:
        self.suspend()
        self._connections.close()

    def mode(self) -> str:
        for mode in (CHECKERBOARD, DIFFERENCE, FUSED):
            if getattr(self._ui, f"{mode}Button").checked:
                return mode
        return FADE

    def show_result(self, transform) -> None:
        """Put a new result into the slice views: fixed below, moving above, or both fused, and the views linked."""
        self._show_checked(self._ui.afterCheckBox, True)
        self.refresh()
        self._show_all()
        if self._ui.gridCheckBox.checked:
            self._on_grid(True)

    def show_pair(self) -> None:
        """Fixed volume in the background, moving volume in the foreground, everything in view."""
        if self.mode() == FUSED:
            self._ui.fadeButton.checked = True
        self._show_all()

    def show_moving(self) -> None:
        """See to it that the moving volume is in the slice views; where it is, they stay as they are."""
        moving = self._pair()[1]
        composites = [view.composite_node for view in slice_views()]
        layers = {volume for one in composites for volume in (one.GetBackgroundVolumeID(), one.GetForegroundVolumeID())}
        if moving is not None and moving.GetID() not in layers:
            self.show_pair()

    def show_fused(self) -> None:
        """Put a new fused volume into the slice views, which stay where they are if they show the pair."""
        self.refresh()
        if self._fused() is None:
            return
        shown = {view.composite_node.GetBackgroundVolumeID() for view in slice_views()}
        self._ui.fusedButton.checked = True
        if shown <= {self._fused_id, *(volume.GetID() for volume in self._pair() if volume is not None)}:
            self._on_mode()
        else:
            self._show_all()

    def resume(self) -> None:
        """Show again what :meth:`suspend` took away."""
        self.refresh()
        self._apply_mode()

    def suspend(self) -> None:
        """Give the slice views their own images back."""
        for composite in self._composites:
            composite.remove()
        self._composites, self._boards = [], []

    def refresh(self) -> None:
        """Enable what makes sense for the present pair and result."""
        result, fused = self._result(), self._fused()
        self._ui.fusedButton.visible = fused is not None
        if fused is None and self._get_parameters() is not None and self.mode() == FUSED:
            self._ui.fadeButton.checked = True
            self._take_fused_out()
        self._ui.reviewFrame.enabled = None not in self._pair()
        self._ui.afterCheckBox.enabled = self._can_be_toggled(result)
        self._ui.gridCheckBox.enabled = result is not None
        if self._can_be_toggled(result) and not is_previewed(result.GetNodeReference(MOVING)):
            applied = result.GetNodeReference(MOVING).GetTransformNodeID() == result.GetID()
            self._show_checked(self._ui.afterCheckBox, applied)
        mode = self.mode()
        for widget in (self._ui.fadeLabel, self._ui.fadeSlider):
            widget.visible = mode == FADE
        for widget in (self._ui.tileLabel, self._ui.tileSlider):
            widget.visible = mode == CHECKERBOARD

    def _result(self):
        parameters = self._get_parameters()
        return parameters.resultTransform if parameters is not None else None

    def _fused(self):
        parameters = self._get_parameters()
        return fused_of(parameters) if parameters is not None else None

    def _pair(self):
        """The two volumes to compare, (None, None) where there are no two.

        The resampled volume stands for the moving one where that was not transformed.
        """
        parameters = self._get_parameters()
        if parameters is None:
            return None, None
        moving = parameters.movingVolume
        resampled = parameters.outputVolume
        if resampled is not None and parameters.createVolume and not parameters.applyToMoving:
            moving = resampled
        pair = parameters.fixedVolume, moving
        return pair if None not in pair and pair[0] is not pair[1] else (None, None)

    @staticmethod
    def _can_be_toggled(result) -> bool:
        """Before and after differ by the moving volume's transform, so a result must know its volumes."""
        return result is not None and None not in (result.GetNodeReference(FIXED), result.GetNodeReference(MOVING))

    def _show_all(self) -> None:
        """Fill the slice views for the present mode, and fit everything into view."""
        if None in self._pair():
            return
        if self.mode() == FUSED:
            self._put_fused_in()
        else:
            self._put_pair_in()
        slicer.util.resetSliceViews()
        self._on_link(self._ui.linkCheckBox.checked)
        self._apply_mode()

    def _put_pair_in(self) -> None:
        fixed, moving = self._pair()
        self._fused_id = ""
        slicer.util.setSliceViewerLayers(
            background=fixed, foreground=moving, foregroundOpacity=self._ui.fadeSlider.value
        )

    def _put_fused_in(self) -> None:
        self._fused_id = self._fused().GetID()
        slicer.util.setSliceViewerLayers(background=self._fused_id, foreground=None)

    def _take_fused_out(self) -> None:
        """Show the pair where the fused volume was shown; what the user has put into the views since stays there."""
        shown = [view.composite_node.GetBackgroundVolumeID() for view in slice_views()]
        if self._fused_id and None not in self._pair() and any(not one or one == self._fused_id for one in shown):
            self._put_pair_in()

    def _on_mode(self) -> None:
        if self.mode() == FUSED:
            self._put_fused_in()
        else:
            self._take_fused_out()
        self._apply_mode()

    def _apply_mode(self) -> None:
        self.suspend()
        self.refresh()
        if self.mode() in (FADE, FUSED) or None in self._pair():
            return
        for view in slice_views():
            combine = Difference() if self.mode() == DIFFERENCE else Checkerboard(self._ui.tileSlider.value)
            if isinstance(combine, Checkerboard):
                self._boards.append((combine, view))
            composite = LiveComposite(view, combine)
            self._composites.append(composite)
            composite.show()

    def _on_fade(self, opacity: float) -> None:
        for view in slice_views():
            view.composite_node.SetForegroundOpacity(opacity)

    def _on_tile(self, millimetres: float) -> None:
        for board, view in self._boards:
            board.set_tile(millimetres, view.slice_node)
            view.schedule_render()

    def _on_link(self, linked: bool) -> None:
        for view in slice_views():
            view.composite_node.SetLinkedControl(int(linked))
            view.composite_node.SetHotLinkedControl(int(linked))

    def _on_after(self, after: bool) -> None:
        """Put the moving volume under the result, or back to where it was before."""
        result = self._result()
        if self._showing or not self._can_be_toggled(result):
            return
        place = result if after else result.GetNodeReference(RESULT_PARENT)
        result.GetNodeReference(MOVING).SetAndObserveTransformNodeID(place.GetID() if place is not None else None)

    def _on_grid(self, visible: bool) -> None:
        """Draw the deformation as a grid in the slice views, with Slicer's own transform display."""
        result = self._result()
        if result is None:
            return
        show_deformation_grid(result, visible)

    def _show_checked(self, box, checked: bool) -> None:
        self._showing = True
        try:
            box.checked = checked
        finally:
            self._showing = False
