"""Looking at a registration: fade, flicker, checkerboard, difference, edges, reveal, fused, before and after, grid.

The same section serves the registration panels and the module that reviews any transform.
"""

from __future__ import annotations

from pathlib import Path

import slicer

from .connections import Connections
from .deformation_grid import show_deformation_grid
from .review_modes import FADE, FUSED, LIVE_MODES, SLIDERS, LiveModes
from .review_shortcuts import ReviewShortcuts
from .slice_views import slice_views

VIEWS_UI = Path(__file__).resolve().parent.parent / "Resources" / "UI" / "RegNetReviewViews.ui"
OVERLAY_OPACITY = 0.6


class ReviewSection:
    """Binds the Review section's widgets to the slice views.

    Composites are in the views, timers run and shortcuts listen only while the panel is open: :meth:`suspend` plugs the
    views' own images back in.

    Args:
        ui: the panel's widgets; those of this section, which are loaded here into ``ui.reviewSection``, are added.
        subject: what is looked at, see :class:`PanelSubject`.
    """

    def __init__(self, ui, subject) -> None:
        self._ui, self._subject = ui, subject
        frame = slicer.util.loadUI(str(VIEWS_UI))
        ui.reviewSection.layout().insertWidget(0, frame)
        vars(ui).update({**vars(slicer.util.childWidgetVariables(frame)), "reviewFrame": frame})
        self._live = LiveModes()
        self._shortcuts = ReviewShortcuts(ui)
        self._showing = False
        self._fused_id = self._overlay_id = ""
        self._on_overlay_gone = lambda: None
        self._connections = Connections()
        for mode in (FADE, *LIVE_MODES, FUSED):
            self._connections.add(getattr(ui, f"{mode}Button"), "clicked()", self._on_mode)
        for mode in LIVE_MODES:
            if mode in SLIDERS:
                self._connections.add(self._slider(mode), "valueChanged(double)", self._on_value)
        for widget, signal, slot in (
            (ui.fadeSlider, "valueChanged(double)", self._on_fade),
            (ui.afterCheckBox, "toggled(bool)", self._on_after),
            (ui.linkCheckBox, "toggled(bool)", self._on_link),
            (ui.gridCheckBox, "toggled(bool)", self._on_grid),
            (ui.grid3DCheckBox, "toggled(bool)", self._on_grid),
            (ui.showPairButton, "clicked()", self.show_pair),
        ):
            self._connections.add(widget, signal, slot)
        self.refresh()

    def close(self) -> None:
        self.suspend()
        self._shortcuts.close()
        self._live.close()
        self._connections.close()

    def mode(self) -> str:
        return next((mode for mode in (*LIVE_MODES, FUSED) if getattr(self._ui, f"{mode}Button").checked), FADE)

    def show_result(self, transform) -> None:
        """Put a new result into the slice views: fixed below, moving above, or both fused, and the views linked."""
        self._show_checked(self._ui.afterCheckBox, True)
        self.refresh()
        self._show_all()
        if self._ui.gridCheckBox.checked or self._ui.grid3DCheckBox.checked:
            self._on_grid(True)

    def show_pair(self) -> None:
        """Fixed volume in the background, moving volume in the foreground, everything in view."""
        if self.mode() == FUSED:
            self._ui.fadeButton.checked = True
        self._show_all()

    def show_moving(self) -> None:
        """See to it that the moving volume is in the slice views; where it is, they stay as they are."""
        moving = self._subject.pair()[1]
        composites = [view.composite_node for view in slice_views()]
        layers = {volume for one in composites for volume in (one.GetBackgroundVolumeID(), one.GetForegroundVolumeID())}
        if moving is not None and moving.GetID() not in layers:
            self.show_pair()

    def show_fused(self) -> None:
        """Put a new fused volume into the slice views, which stay where they are if they show the pair."""
        self.refresh()
        if self._subject.fused() is None:
            return
        shown = {view.composite_node.GetBackgroundVolumeID() for view in slice_views()}
        self._ui.fusedButton.checked = True
        if shown <= {self._fused_id, *(volume.GetID() for volume in self._subject.pair() if volume is not None)}:
            self._on_mode()
        else:
            self._show_all()

    def show_overlay(self, volume) -> None:
        """Lay a map over the fixed volume, until a way of looking at the pair is chosen; None takes it away."""
        fixed = self._subject.volumes()[0]
        if volume is not None and fixed is not None:
            self._live.stop()
            self._overlay_id, self._fused_id = volume.GetID(), ""
            slicer.util.setSliceViewerLayers(background=fixed, foreground=volume, foregroundOpacity=OVERLAY_OPACITY)
        elif self._overlay_id and None not in self._subject.pair():
            self._take_overlay_out()
            self._on_mode()

    def watch_overlay(self, on_gone) -> None:
        """Call ``on_gone`` without arguments when something else takes the place of the map."""
        self._on_overlay_gone = on_gone

    def has_overlay(self) -> bool:
        """Whether the map that was laid over the fixed volume is still there."""
        shown = {view.composite_node.GetForegroundVolumeID() for view in slice_views()}
        return bool(self._overlay_id) and self._overlay_id in shown

    def resume(self) -> None:
        """Show again what :meth:`suspend` took away."""
        self._shortcuts.listen(True)
        self.refresh()
        self._apply_mode()

    def suspend(self) -> None:
        """Give the slice views their own images back, and the keys back to the others."""
        self._shortcuts.listen(False)
        self._live.stop()

    def refresh(self) -> None:
        """Enable what makes sense for the present pair and result."""
        result, fused = self._subject.transform(), self._subject.fused()
        self._ui.fusedButton.visible = fused is not None
        if fused is None and self._subject.parameters() is not None and self.mode() == FUSED:
            self._ui.fadeButton.checked = True
            self._take_fused_out()
        lacking = None in self._subject.pair()
        self._ui.reviewFrame.enabled = not lacking
        self._live.pause(lacking)
        self._ui.afterCheckBox.enabled = self._subject.can_be_toggled()
        self._ui.gridCheckBox.enabled = self._ui.grid3DCheckBox.enabled = result is not None
        if self._subject.can_be_toggled() and self._subject.is_applied() is not None:
            self._show_checked(self._ui.afterCheckBox, self._subject.is_applied())
        mode = self.mode()
        for other, name in SLIDERS.items():
            for widget in (getattr(self._ui, f"{name}Label"), self._slider(other)):
                widget.visible = mode == other

    def _slider(self, mode: str):
        return getattr(self._ui, f"{SLIDERS[mode]}Slider")

    def _show_all(self) -> None:
        """Fill the slice views for the present mode, and fit everything into view."""
        if None in self._subject.pair():
            return
        if self.mode() == FUSED:
            self._put_fused_in()
        else:
            self._put_pair_in()
        slicer.util.resetSliceViews()
        self._on_link(self._ui.linkCheckBox.checked)
        self._apply_mode()

    def _put_pair_in(self) -> None:
        fixed, moving = self._subject.pair()
        self._fused_id = ""
        self._forget_overlay()
        slicer.util.setSliceViewerLayers(
            background=fixed, foreground=moving, foregroundOpacity=self._ui.fadeSlider.value
        )

    def _put_fused_in(self) -> None:
        self._fused_id = self._subject.fused().GetID()
        self._forget_overlay()
        slicer.util.setSliceViewerLayers(background=self._fused_id, foreground=None)

    def _take_fused_out(self) -> None:
        """Show the pair where the fused volume was shown; what the user has put into the views since stays there."""
        self._take_out(self._fused_id, [view.composite_node.GetBackgroundVolumeID() for view in slice_views()])

    def _take_overlay_out(self) -> None:
        """The same for a map in the foreground."""
        self._take_out(self._overlay_id, [view.composite_node.GetForegroundVolumeID() for view in slice_views()])
        self._forget_overlay()

    def _forget_overlay(self) -> None:
        if self._overlay_id:
            self._overlay_id = ""
            self._on_overlay_gone()

    def _take_out(self, identity: str, shown: list) -> None:
        if identity and None not in self._subject.pair() and any(not one or one == identity for one in shown):
            self._put_pair_in()

    def _on_mode(self) -> None:
        if self.mode() == FUSED:
            self._put_fused_in()
        else:
            self._take_fused_out()
            self._take_overlay_out()
        self._apply_mode()

    def _apply_mode(self) -> None:
        self._live.stop()
        self.refresh()
        mode = self.mode()
        if mode in LIVE_MODES and None not in self._subject.pair() and not self.has_overlay():
            self._live.start(mode, self._slider(mode).value if mode in SLIDERS else 0.0)

    def _on_fade(self, opacity: float) -> None:
        if not self.has_overlay():
            for view in slice_views():
                view.composite_node.SetForegroundOpacity(opacity)

    def _on_value(self, value: float) -> None:
        self._live.set_value(self._slider(self.mode()).value if self.mode() in SLIDERS else value)

    def _on_link(self, linked: bool) -> None:
        for view in slice_views():
            view.composite_node.SetLinkedControl(int(linked))
            view.composite_node.SetHotLinkedControl(int(linked))

    def _on_after(self, after: bool) -> None:
        """Put the moving volume under the result, or back to where it was before."""
        if not self._showing and self._subject.can_be_toggled():
            self._subject.apply(after)

    def _on_grid(self, _checked: bool) -> None:
        """Draw the deformation as a grid, with Slicer's own transform display."""
        result = self._subject.transform()
        if result is not None:
            fixed = self._subject.volumes()[0]
            show_deformation_grid(result, self._ui.gridCheckBox.checked, self._ui.grid3DCheckBox.checked, fixed)

    def _show_checked(self, box, checked: bool) -> None:
        self._showing = True
        try:
            box.checked = checked
        finally:
            self._showing = False
