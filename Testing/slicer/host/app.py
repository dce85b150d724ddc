"""slicer.app: the application object over PySide6's, and the main window with its module selector."""

from __future__ import annotations

import os
import shutil
import stat
import sys
from pathlib import Path

from PySide6 import QtCore, QtWidgets

from .core_io import make_temporary_folder, qSlicerCoreIOManager
from .errors import HostGapError
from .module_manager import qSlicerModuleManager
from .native_property import stored
from .views import _TimerRendering, qSlicerLayoutManager

CORE_MODULES = {
    "Transforms": "vtkSlicerTransformLogic",
    "Models": "vtkSlicerModelsLogic",
    "CropVolume": "vtkSlicerCropVolumeLogic",
    "Markups": "vtkSlicerMarkupsLogic",
    "Volumes": "vtkSlicerVolumesLogic",
    "Segmentations": "vtkSlicerSegmentationsModuleLogic",
    "Sequences": "vtkSlicerSequencesLogic",
    "SubjectHierarchy": "vtkSlicerSubjectHierarchyModuleLogic",
    "Colors": "vtkMRMLColorLogic",
    "Data": "vtkSlicerDataModuleLogic",
}


class _CommandOptions(QtCore.QObject):
    testingEnabled = stored(bool, True, "testingEnabled")
    noMainWindow = stored(bool, False, "noMainWindow")
    runPythonAndExit = stored(bool, True, "runPythonAndExit")


class _Environment:
    """What `slicer.app.startupEnvironment()` gives: a QProcessEnvironment's `keys` and `value`."""

    def keys(self) -> list[str]:
        return list(os.environ)

    def value(self, key: str) -> str:
        return os.environ[key]


class qSlicerApplication(QtWidgets.QApplication):
    """One per process."""

    startupCompleted = QtCore.Signal()
    mrmlSceneChanged = QtCore.Signal(object)
    host_signals = {"mrmlSceneChanged(vtkMRMLScene*)": "mrmlSceneChanged"}
    defaultScenePath = stored(str, "", "defaultScenePath")
    documentationBaseUrl = stored(str, "https://slicer.readthedocs.io/en/latest/", "documentationBaseUrl")
    majorVersion = QtCore.Property(int, lambda self: 5)
    minorVersion = QtCore.Property(int, lambda self: 11)
    applicationVersion = QtCore.Property(str, lambda self: "5.11.0")
    revision = QtCore.Property(str, lambda self: "host")
    os = QtCore.Property(str, lambda self: {"win32": "win", "darwin": "macosx"}.get(sys.platform, "linux"))
    temporaryPath = QtCore.Property(str, lambda self: self._temporary)
    slicerHome = QtCore.Property(str, lambda self: self._temporary)
    extensionsInstallPath = QtCore.Property(str, lambda self: os.path.join(self._temporary, "Extensions"))
    slicerUserSettingsFilePath = QtCore.Property(str, lambda self: self.userSettings().fileName())

    def __init__(self, arguments):
        super().__init__(arguments)
        self.setOrganizationName("NA-MIC")
        self.setApplicationName("Slicer")
        self._temporary = make_temporary_folder()
        QtCore.QSettings.setDefaultFormat(QtCore.QSettings.IniFormat)
        QtCore.QSettings.setPath(QtCore.QSettings.IniFormat, QtCore.QSettings.UserScope, self._temporary)
        self._settings = QtCore.QSettings()
        self._options = _CommandOptions()
        self._modules = qSlicerModuleManager(self)
        self._io = qSlicerCoreIOManager(self, self)
        self._trame = self._layout = None
        self._put_python_slicer_on_path()

    def _put_python_slicer_on_path(self) -> None:
        """Slicer's `PythonSlicer` is on PATH; here it starts the interpreter of the tests."""
        launcher = Path(self._temporary) / ("PythonSlicer.bat" if sys.platform == "win32" else "PythonSlicer")
        if sys.platform == "win32":
            launcher.write_text(f'@"{sys.executable}" %*\n')
        else:
            launcher.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
            launcher.chmod(launcher.stat().st_mode | stat.S_IXUSR)
        os.environ["PATH"] = self._temporary + os.pathsep + os.environ.get("PATH", "")

    def start(self) -> None:
        """Make the scene, the logics, the views and the main window (needs `slicer` complete)."""
        import slicer
        from trame_slicer.core import SlicerApp

        self._trame = SlicerApp()
        slicer.mrmlScene = self._trame.scene
        # On Slicer's own start the temporary folder is told to the logic and the remote data manager.
        self._trame.app_logic.SetTemporaryPath(self._temporary)
        for name, class_name in CORE_MODULES.items():
            logic = self._trame.app_logic.GetModuleLogic(name)
            if logic is None:
                logic = self._trame.register_module_logic(getattr(slicer, class_name)(), logic_name=name)
            self._modules.add_core_module(name, logic)
        self._layout = qSlicerLayoutManager(self._trame, self)
        self._window = qSlicerMainWindow(self)

    # Parts
    def mrmlScene(self):
        return self._trame.scene

    def applicationLogic(self):
        return self._trame.app_logic

    def layoutManager(self):
        return self._layout

    def moduleManager(self):
        return self._modules

    def coreIOManager(self):
        return self._io

    ioManager = coreIOManager

    def settings(self):
        return self._settings

    userSettings = revisionUserSettings = settings

    def commandOptions(self):
        return self._options

    def testingEnabled(self) -> bool:
        return self._options.property("testingEnabled")

    def startupEnvironment(self):
        return _Environment()

    def pythonConsole(self):
        return None

    def moduleDocumentationUrl(self, name: str) -> str:
        return f"https://slicer.readthedocs.io/en/latest/user_guide/modules/{name.lower()}.html"

    def toSlicerHomeAbsolutePath(self, path: str) -> str:
        return path if os.path.isabs(path) else os.path.join(self._temporary, path)

    # Rendering
    def pauseRender(self) -> None:
        _TimerRendering.paused += 1

    def resumeRender(self) -> None:
        _TimerRendering.paused -= 1

    def setRenderPaused(self, paused: bool) -> None:
        self.pauseRender() if paused else self.resumeRender()

    def restart(self) -> None:
        raise HostGapError("Slicer would restart now")

    def remove_temporary_folder(self) -> None:
        shutil.rmtree(self._temporary, ignore_errors=True)


class qSlicerModuleSelectorToolBar(QtWidgets.QToolBar):
    """Switches between modules: exit() of the old one, enter() of the new one."""

    moduleSelected = QtCore.Signal(str)

    def __init__(self, manager, parent):
        super().__init__(parent)
        self._manager, self._selected = manager, ""

    selectedModule = QtCore.Property(str, lambda self: self._selected)

    def selectModule(self, name: str) -> None:
        new = self._manager.module(name)
        if new is None or name == self._selected:
            return
        self.leave()
        self._selected = name
        if hasattr(new, "createNewWidgetRepresentation"):
            new.widgetRepresentation().enter()
        self.moduleSelected.emit(name)

    def leave(self) -> None:
        """No module is selected."""
        old = self._manager.module(self._selected)
        self._selected = ""
        if old is not None and getattr(old, "_widget", None) is not None:
            old._widget.exit()


class qSlicerMainWindow(QtWidgets.QMainWindow):
    """The window that `slicer.util.mainWindow()` finds; it is never shown."""

    def __init__(self, app):
        super().__init__()
        self.setObjectName("qSlicerMainWindow")
        self._selector = qSlicerModuleSelectorToolBar(app.moduleManager(), self)

    def moduleSelector(self):
        return self._selector

    def pythonConsole(self):
        return None
