"""A test double of Slicer's Python layer over the real MRML scene (see README.md).

`install()` makes `qt`, `ctk` and the missing parts of `slicer` importable.
"""

from __future__ import annotations

import atexit
import importlib.machinery
import sys

_installed: dict = {}


def is_real_slicer() -> bool:
    """Whether this process is Slicer itself: there `slicer.app` exists before any test is read."""
    return not _installed and hasattr(sys.modules.get("slicer"), "app")


def install():
    """Make the modules, once per process; returns the native application object."""
    if _installed:
        return _installed["app"]
    # Enums as IntEnum and IntFlag, reachable unscoped: PythonQt's enums are ints. Read by PySide6 when first imported.
    sys.pyside6_option_python_enum = 0x0E
    from . import graphics, immortals

    immortals.protect_singletons()
    graphics.prepare()
    import slicer  # noqa: I001  (before PySide6: both bring libraries, and MRML's must win)

    from . import ctk_module, errors, mrml_widgets, node_combo_box, packaging, qt_module, qt_signals  # noqa: F401
    from PySide6 import QtCore

    from . import i18n, module_manager, parameter_nodes, sample_data, scripted
    from .app import qSlicerApplication
    from .qt_adapter import wrap, wrapper_class
    from .ui_loader import custom_widgets

    errors.install_excepthook()
    QtCore.qInstallMessageHandler(errors.handle_qt_message)
    native = qSlicerApplication(sys.argv[:1])
    _install_module("qt", qt_module.make_module())
    _install_module("ctk", ctk_module.make_module())
    for name, widget in custom_widgets.items():
        if name.startswith("q"):
            setattr(slicer, name, wrapper_class(widget))
    for native_class in (
        module_manager.qSlicerScriptedLoadableModule,
        module_manager.qSlicerScriptedLoadableModuleWidget,
    ):
        setattr(slicer, native_class.__name__, wrapper_class(native_class))
    for name, module in {
        "slicer.ScriptedLoadableModule": scripted,
        "slicer.parameterNodeWrapper": parameter_nodes.make_module(),
        "slicer.i18n": i18n,
        "slicer.packaging": packaging.make_slicer_packaging(),
        "slicer.modules": module_manager.make_modules_namespace(),
        "PyTorchUtils": packaging.make_pytorch_utils(),
        "SampleData": sample_data.make_sample_data(),
    }.items():
        _install_module(name, module)
    slicer.util.pip_install, slicer.util.pip_uninstall = packaging.pip_install, packaging.pip_uninstall
    slicer.app = wrap(native)
    native.start()
    _installed["app"] = native
    atexit.register(native.remove_temporary_folder)
    return native


def _install_module(name: str, module) -> None:
    if getattr(module, "__spec__", None) is None:
        module.__spec__ = importlib.machinery.ModuleSpec(name, None)
    sys.modules[name] = module
    if name.startswith("slicer."):
        setattr(sys.modules["slicer"], name.removeprefix("slicer."), module)


def answer_next(answer) -> None:
    """Prepare the answer of the next modal dialog (a value, or a function called with the dialog)."""
    from .qt_calls import answer_next as prepare

    prepare(answer)


def reset() -> None:
    """Before each test: no recorded installations, no prepared answers, no settings, the usual layout."""
    from . import packaging, qt_calls

    packaging.reset()
    qt_calls.forget_answers()
    _installed["app"].settings().clear()
    _installed["app"].layoutManager()._reset()


def delete_closed_widgets() -> None:
    """What Slicer's own event loop does between two events, and `processEvents` does not: carry out `deleteLater`."""
    from PySide6 import QtCore

    QtCore.QCoreApplication.sendPostedEvents(None, QtCore.QEvent.DeferredDelete)
