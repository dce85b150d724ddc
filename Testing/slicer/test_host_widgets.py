"""The host's .ui loader, its widgets, and how it starts (host/README.md)."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).resolve().parent / "example_module"


def test_a_ui_file_with_a_misspelt_property_is_refused(tmp_path):
    import slicer

    path = tmp_path / "wrong.ui"
    text = (EXAMPLE / "Resources" / "UI" / "ExampleModule.ui").read_text()
    path.write_text(text.replace('<property name="decimals">', '<property name="decimal">'))
    with pytest.raises(AttributeError, match="no property 'decimal'"):
        slicer.util.loadUI(str(path))
    path.write_text(text.replace("mrmlSceneChanged(vtkMRMLScene*)", "sceneChanged(vtkMRMLScene*)"))
    with pytest.raises(ValueError, match="has no signal"):
        slicer.util.loadUI(str(path))


def test_thousands_of_signals_do_no_harm():
    """Python 3.10 and 3.11 would abort: see host/immortals.py."""
    import slicer

    box = slicer.qMRMLNodeComboBox()
    before = min(sys.getrefcount(True), sys.getrefcount(None))
    assert before > 1 << 30
    for _ in range(3000):
        box._native.currentNodeChangedToValid.emit(True)


def test_a_collapsed_button_hides_its_contents():
    import ctk
    import qt

    panel = qt.QWidget()
    outer = qt.QVBoxLayout(panel)
    button = ctk.ctkCollapsibleButton()
    button.text = "Advanced"
    outer.addWidget(button)
    inner = qt.QFormLayout(button)
    shown, hidden = qt.QLabel("shown"), qt.QLabel("hidden")
    inner.addRow(shown)
    inner.addRow(hidden)
    panel.show()
    hidden.visible = False
    seen = []
    button.contentsCollapsed.connect(seen.append)
    tall = button.sizeHint.height()
    button.collapsed = True
    assert (shown.visible, hidden.visible, button.checked, seen) == (False, False, False, [True])
    assert button.sizeHint.height() < tall
    button.click()
    assert (shown.visible, hidden.visible, button.collapsed, seen) == (True, False, False, [True, False])


def test_a_missing_library_is_named(monkeypatch):
    from host import graphics

    def refuse(name):
        raise OSError(name)

    monkeypatch.setattr(ctypes, "CDLL", refuse)
    monkeypatch.setattr(sys, "platform", "linux")
    with pytest.raises(graphics.GraphicsError, match=r"libEGL\.so\.1.*apt-get install"):
        graphics.prepare()


def test_a_missing_driver_is_said_before_vtk_crashes(monkeypatch):
    from host import graphics

    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(graphics, "_opengl_driver_answers", lambda: False)
    with pytest.raises(graphics.GraphicsError, match=r"no OpenGL driver answers.*apt-get install"):
        graphics.prepare()


def test_run_in_slicer_hands_over_modules_script_and_exit_code(tmp_path):
    import run_in_slicer

    fake = tmp_path / "Slicer"
    fake.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {tmp_path}/arguments\nexit 7\n')
    fake.chmod(0o755)
    assert run_in_slicer.start_slicer(str(fake), ["-k", "panel"]) == 7
    given = (tmp_path / "arguments").read_text().split("\n")
    assert given[0] == "--testing"
    assert {Path(path).name for path in given if "RegNetModules" in path} >= {"RegNet", "RegNetAVSM"}
    assert given[-5:-1] == ["--python-script", str(Path(run_in_slicer.__file__)), "-k", "panel"]
