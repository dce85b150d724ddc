"""slicer.ScriptedLoadableModule: the four base classes of a scripted module."""

from __future__ import annotations

import importlib
import logging
import os
import unittest

__all__ = [
    "ScriptedLoadableModule",
    "ScriptedLoadableModuleLogic",
    "ScriptedLoadableModuleTest",
    "ScriptedLoadableModuleWidget",
]


class ScriptedLoadableModule:
    """A module's metadata, written onto `parent` (the C++ module object)."""

    def __init__(self, parent):
        import qt
        import slicer

        super().__init__()
        self.parent = parent
        self.moduleName = type(self).__name__
        parent.title = ""
        parent.categories = []
        parent.dependencies = []
        parent.contributors = []
        parent.helpText = ""
        parent.acknowledgementText = ""
        for ending in (".svg", ".png"):
            icon = self.resourcePath(os.path.join("Icons", self.moduleName + ending))
            if os.path.isfile(icon):
                parent.icon = qt.QIcon(icon)
                break
        slicer.selfTests = getattr(slicer, "selfTests", {})
        slicer.selfTests[self.moduleName] = self.runTest

    def resourcePath(self, filename: str) -> str:
        return os.path.join(os.path.dirname(self.parent.path), "Resources", filename)

    def getDefaultModuleDocumentationLink(self, docPage=None) -> str:
        import slicer

        url = (
            slicer.app.documentationBaseUrl + docPage if docPage else slicer.app.moduleDocumentationUrl(self.moduleName)
        )
        return f'<p>For more information see the <a href="{url}">online documentation</a>.</p>'

    def runTest(self, msec: int = 100, **kwargs) -> None:
        module = importlib.import_module(self.__module__)
        test_class = getattr(module, self.moduleName + "Test", None)
        if test_class is None:
            raise AssertionError(f"Test case class not found: {self.__module__}.{self.moduleName}Test")
        test = test_class()
        test.messageDelay = msec
        test.runTest(**kwargs)


class ScriptedLoadableModuleWidget:
    """A module's panel. Given no parent it makes a window of its own and shows itself, as in Slicer."""

    def __init__(self, parent=None):
        import qt
        import slicer

        super().__init__()
        self.moduleName = type(self).__name__.removesuffix("Widget")
        self.developerMode = slicer.util.settingsValue("Developer/DeveloperMode", False, converter=slicer.util.toBool)
        if parent:
            self.parent = parent
        else:
            self.parent = slicer.qMRMLWidget()
            self.parent.setLayout(qt.QVBoxLayout())
            self.parent.setMRMLScene(slicer.mrmlScene)
        self.layout = self.parent.layout()
        if not parent:
            self.setup()
            self.parent.show()
        slicer.app.moduleManager().connect("moduleAboutToBeUnloaded(QString)", self._onModuleAboutToBeUnloaded)

    def resourcePath(self, filename: str) -> str:
        import slicer

        return os.path.join(os.path.dirname(slicer.util.modulePath(self.moduleName)), "Resources", filename)

    def setup(self) -> None:
        """The reload and test buttons of developer mode would be added here; the host has none."""

    def cleanup(self) -> None:
        """For subclasses: called before the module is unloaded and when the application ends."""

    def _onModuleAboutToBeUnloaded(self, moduleName) -> None:
        import slicer

        if moduleName == self.moduleName:
            self.cleanup()
            slicer.app.moduleManager().disconnect("moduleAboutToBeUnloaded(QString)", self._onModuleAboutToBeUnloaded)


class ScriptedLoadableModuleLogic:
    """Finds or makes the module's parameter node."""

    def __init__(self, parent=None):
        super().__init__()
        self.moduleName = type(self).__name__.removesuffix("Logic")
        self.isSingletonParameterNode = True

    def getAllParameterNodes(self) -> list:
        import slicer

        nodes = slicer.util.getNodesByClass("vtkMRMLScriptedModuleNode")
        return [node for node in nodes if node.GetAttribute("ModuleName") == self.moduleName]

    def getParameterNode(self):
        import slicer

        if self.isSingletonParameterNode:
            found = slicer.mrmlScene.GetSingletonNode(self.moduleName, "vtkMRMLScriptedModuleNode")
            if found is not None:
                # Closing the scene may remove the attribute.
                if found.GetAttribute("ModuleName") != self.moduleName:
                    found.SetAttribute("ModuleName", self.moduleName)
                return found
        elif self.getAllParameterNodes():
            return self.getAllParameterNodes()[0]
        return slicer.mrmlScene.AddNode(self.createParameterNode())

    def createParameterNode(self):
        import slicer

        node = slicer.mrmlScene.CreateNodeByClass("vtkMRMLScriptedModuleNode")
        node.UnRegister(None)
        if self.isSingletonParameterNode:
            node.SetSingletonTag(self.moduleName)
        node.SetAttribute("ModuleName", self.moduleName)
        node.SetName(slicer.mrmlScene.GenerateUniqueName(self.moduleName))
        return node


class ScriptedLoadableModuleTest(unittest.TestCase):
    """A module's self-test."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.enableScreenshots = False
        self.screenshotScaleFactor = 1.0

    def delayDisplay(self, message: str, requestedDelay=None, msec=None) -> None:
        import slicer

        delay = getattr(self, "messageDelay", None) or msec or requestedDelay or 100
        slicer.util.delayDisplay(message, delay)

    def takeScreenshot(self, name: str, description: str, type: int = -1) -> None:
        self.delayDisplay(description)

    def runTest(self) -> None:
        logging.warning("No test is defined in %s", self.__class__.__name__)
