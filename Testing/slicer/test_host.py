"""The host behaves as PythonQt does inside Slicer: one test per rule (host/README.md)."""

from __future__ import annotations

import functools
import gc
import sys
import threading

import pytest


@pytest.fixture
def qt():
    import qt

    return qt


def test_properties_are_attributes(qt):
    button = qt.QPushButton("Apply")
    assert button.text == "Apply"
    with pytest.raises(TypeError, match="not callable"):
        button.text()
    button.text = "Cancel"
    button.setToolTip("Stop")
    assert (button.text, button.toolTip, button.enabled, button.checked) == ("Cancel", "Stop", True, False)
    button.name = "applyButton"
    assert button.objectName == button.name == "applyButton"


def test_methods_stay_calls_and_setters_work(qt):
    timer = qt.QTimer()
    timer.setInterval(7)
    assert timer.interval == 7
    assert timer.isActive() is False
    box = qt.QSpinBox()
    box.setValue(5)
    assert box.value == 5


@pytest.mark.parametrize(("name", "value"), [("minimumWidth", "wide"), ("text", None)])
def test_a_property_refuses_a_wrong_type(qt, name, value):
    with pytest.raises(AttributeError, match="does not accept"):
        setattr(qt.QLabel(), name, value)


def test_a_read_only_property_cannot_be_written(qt):
    with pytest.raises(AttributeError, match="not writable"):
        qt.QLabel().sizeHint = qt.QSize(3, 4)


def test_bare_widgets_take_no_new_attribute_and_subclasses_do(qt):
    with pytest.raises(AttributeError, match="not allowed"):
        qt.QWidget().clock = 3
    with pytest.raises(AttributeError, match="can not be overwritten"):
        qt.QWidget().setVisible = print

    class Panel(qt.QWidget):
        pass

    panel = Panel()
    panel.clock = 3
    panel.toolTip = "mine"
    assert (panel.clock, panel.toolTip) == (3, "mine")
    with pytest.raises(AttributeError, match="no attribute named 'missing'"):
        _ = panel.missing


def test_both_ways_to_connect(qt):
    button = qt.QPushButton()
    button.checkable = True
    seen = []
    assert button.connect("clicked(bool)", lambda checked: seen.append(("string", checked))) is True
    button.clicked.connect(lambda checked: seen.append(("attribute", checked)))
    button.click()
    assert sorted(seen) == [("attribute", True), ("string", True)]


@pytest.mark.parametrize("signature", ["clickd()", "clicked(int)", "clicked"])
def test_a_misspelt_signature_raises(qt, signature):
    with pytest.raises(ValueError, match="has no signal"):
        qt.QPushButton().connect(signature, lambda: None)


def test_a_slot_receives_as_many_arguments_as_it_has_parameters(qt):
    button = qt.QPushButton()
    seen = {}
    button.clicked.connect(lambda: seen.update(none=()))
    button.clicked.connect(lambda value="default": seen.update(default=value))
    button.clicked.connect(lambda *values: seen.update(all=values))
    button.clicked.connect(functools.partial(lambda first, second: seen.update(partial=(first, second)), "mine"))
    button.connect("clicked()", lambda *values: seen.update(empty=values))
    button.click()
    assert seen == {"none": (), "default": False, "all": (False,), "partial": ("mine", False), "empty": ()}


def test_a_bound_method_is_cut_to_its_parameters(qt):
    class Receiver:
        def __init__(self):
            self.calls = 0

        def on_clicked(self):
            self.calls += 1

    receiver, button = Receiver(), qt.QPushButton()
    button.clicked.connect(receiver.on_clicked)
    button.click()
    assert receiver.calls == 1
    assert button.clicked.disconnect(receiver.on_clicked) is True
    button.click()
    assert receiver.calls == 1
    assert button.disconnect("clicked(bool)", receiver.on_clicked) is False


def test_handlers_are_held_strongly(qt):
    button = qt.QPushButton()
    seen = []

    class Receiver:
        def on_clicked(self):
            seen.append(1)

    button.clicked.connect(Receiver().on_clicked)
    gc.collect()
    button.click()
    assert seen == [1]


def test_exceptions_in_slots_are_collected(qt, slot_errors, process_events):
    button = qt.QPushButton()
    button.clicked.connect(lambda: 1 / 0)
    button.click()
    qt.QTimer.singleShot(0, lambda: {}["key"])
    assert process_events(until=lambda: len(slot_errors) == 2)
    assert [type(error) for error in slot_errors] == [ZeroDivisionError, KeyError]
    slot_errors.clear()


def test_exceptions_in_vtk_observers_are_collected(scene, slot_errors):
    import slicer

    node = scene.AddNewNodeByClass("vtkMRMLTextNode")
    tag = node.AddObserver(slicer.vtkMRMLNode.IDChangedEvent, lambda caller, event: [][3])
    node.InvokeEvent(slicer.vtkMRMLNode.IDChangedEvent)
    node.RemoveObserver(tag)
    assert [type(error) for error in slot_errors] == [IndexError]
    slot_errors.clear()


def test_enums_are_unscoped_ints(qt):
    assert isinstance(qt.Qt.WaitCursor, int)
    assert qt.Qt.AlignLeft | qt.Qt.AlignTop == 0x21
    assert qt.QMessageBox.Ok == 0x400
    with pytest.raises(AttributeError, match=r"write qt\.Qt\.AlignLeft"):
        _ = qt.Qt.AlignmentFlag.AlignLeft
    label = qt.QLabel()
    label.alignment = qt.Qt.AlignRight
    assert label.alignment == 2


def test_file_dialogs_return_text_and_dialogs_never_wait(qt, slicer_host):
    with pytest.raises(RuntimeError, match="would wait for a click"):
        qt.QMessageBox.question(None, "Title", "Go on?")
    slicer_host.answer_next("/data/scan.nii.gz")
    assert qt.QFileDialog.getOpenFileName(None, "Open", "", "*.nii.gz") == "/data/scan.nii.gz"
    dialog = qt.QDialog()
    slicer_host.answer_next(lambda shown: shown is dialog and 1)
    assert dialog.exec_() == 1
    with pytest.raises(AttributeError):
        dialog.exec()


def test_qt_takes_no_paths_and_no_keywords(qt, tmp_path):
    with pytest.raises(TypeError, match=r"pass str\(path\)"):
        qt.QFile(tmp_path)
    with pytest.raises(TypeError, match="no keyword"):
        qt.QLabel(text="x")


def test_classes_do_not_inherit_from_each_other(qt):
    button = qt.QPushButton()
    assert not isinstance(button, qt.QWidget)
    assert button.inherits("QWidget")
    assert button.className() == "QPushButton"


def test_children_come_back_as_the_same_wrappers(qt):
    parent = qt.QWidget()
    layout = qt.QVBoxLayout(parent)
    button = qt.QPushButton("inside")
    button.objectName = "innerButton"
    layout.addWidget(button)
    assert button.parent() == parent
    assert parent.findChild(qt.QPushButton) is button
    assert parent.findChildren("QPushButton", "innerButton") == [button]
    assert parent.innerButton is button
    assert parent.layout() == layout


def test_a_destroyed_object_says_so(qt):
    label = qt.QLabel("gone")
    label.delete()
    assert label == None  # noqa: E711  (what PythonQt code writes)
    with pytest.raises(ValueError, match="destroyed"):
        _ = label.text


def test_subclasses_override_virtual_methods(qt):
    seen = []

    class Dialog(qt.QDialog):
        def closeEvent(self, event):
            seen.append(event.spontaneous())
            super().closeEvent(event)

    dialog = Dialog()
    dialog.show()
    dialog.close()
    assert seen == [False]
    assert dialog.visible is False


def test_using_qt_from_another_thread_is_an_error(qt, slot_errors):
    timer = qt.QTimer()
    thread = threading.Thread(target=lambda: timer.start(1000))
    thread.start()
    thread.join()
    assert "another thread" in str(slot_errors[0])
    slot_errors.clear()


def test_processes_run_and_report(qt, process_events):
    process, ends = qt.QProcess(), []
    process.connect("finished(int,QProcess::ExitStatus)", lambda code, status: ends.append((code, status)))
    process.start(sys.executable, ["-c", "print('hello')"])
    assert process_events(until=lambda: ends, timeout=30)
    assert ends == [(0, qt.QProcess.NormalExit)]
    assert process.readAllStandardOutput().data().strip() == b"hello"


def test_without_a_window_qt_is_empty(python_without_gui):
    done = python_without_gui("import qt, ctk; print(hasattr(qt, 'QWidget'), hasattr(ctk, 'ctkSliderWidget'))")
    assert done.stdout.split() == ["False", "False"], done.stderr
