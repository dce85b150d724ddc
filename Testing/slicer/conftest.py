"""Fixtures for the tests of the Slicer modules, the same inside a real Slicer and on the host (host/README.md)."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
MODULES = HERE.parents[1] / "RegNetModules"

sys.path[:0] = [str(folder) for folder in sorted(MODULES.iterdir()) if (folder / f"{folder.name}.py").is_file()]
sys.path.insert(0, str(HERE))

import host  # noqa: E402

_problem = ""
_application = None


def pytest_configure(config):
    """Start the host, except in the process that only deals the tests out to others (pytest-xdist)."""
    global _application, _problem
    deals_out = getattr(config.option, "dist", "no") != "no" and not hasattr(config, "workerinput")
    if deals_out or host.is_real_slicer():
        return
    try:
        _application = host.install()
    except Exception as error:
        # The core's tests must still run: each file here becomes one failing test that says what the machine lacks.
        needs = (
            ""
            if "apt-get" in str(error)
            else " (python packages: pip install '.[slicer-test]'; system packages: Testing/slicer/host/README.md)"
        )
        _problem = f"The Slicer test host cannot start: {error}{needs}"


class _FailingItem(pytest.Item):
    def runtest(self):
        pytest.fail(_problem, pytrace=False)

    def reportinfo(self):
        return self.path, None, f"{self.path.name}: host"


class _FailingFile(pytest.File):
    def collect(self):
        yield _FailingItem.from_parent(self, name="host_starts")


@pytest.hookimpl(tryfirst=True)
def pytest_pycollect_makemodule(module_path, parent):
    """Without a host the file itself is not imported."""
    return _FailingFile.from_parent(parent, path=module_path) if _problem else None


@pytest.fixture(scope="session", autouse=True)
def slicer_host():
    """The host package, or None inside a real Slicer."""
    return host if _application is not None else None


@pytest.fixture(autouse=True)
def slot_errors(slicer_host):
    """Exceptions raised in slots, timers and observers: what is left in the list at the end fails the test."""
    from host import errors

    errors.slot_errors.clear()
    if _application is not None:
        host.reset()
    yield errors.slot_errors
    left = list(errors.slot_errors)
    errors.slot_errors.clear()
    if left:
        pytest.fail(
            f"{len(left)} exception(s) in slots or observers, which Slicer would only print; the first: {left[0]!r}"
        )


@pytest.fixture(autouse=True)
def no_warm_worker(request, monkeypatch):
    """Panels are opened by the hundred: only for tests that ask for ``warming`` they start a worker then."""
    if "warming" not in request.fixturenames:
        from RegNetLib.scene_panel import ScenePanel

        monkeypatch.setattr(ScenePanel, "_warm_up", lambda self: None)


@pytest.fixture
def warming():
    """Opening a panel starts the worker, as it does for a user."""


@pytest.fixture
def process_events():
    """`process_events(until=None, timeout=None)`: run the event loop; True when the condition held (or none given)."""
    import slicer

    def run(until=None, timeout: float | None = None) -> bool:
        limit = time.monotonic() + (timeout if timeout is not None else 10.0 if until else 0.1)
        while True:
            slicer.app.processEvents()
            if until is not None and until():
                return True
            if time.monotonic() > limit:
                return until is None
            time.sleep(0.005)

    return run


@pytest.fixture
def scene(process_events):
    """`slicer.mrmlScene`, closed before and after the test."""
    import slicer

    slicer.mrmlScene.Clear(0)
    process_events(timeout=0.0)
    yield slicer.mrmlScene
    slicer.mrmlScene.Clear(0)
    process_events(timeout=0.0)


@pytest.fixture
def module_factory():
    """`module_factory(name, folder=None)`: the loaded module (`slicer.modules.<lower case name>`)."""
    import slicer

    def load(name: str, folder: Path | None = None):
        if _application is not None:
            path = (folder or MODULES / name) / f"{name}.py"
            if not path.is_file():
                raise FileNotFoundError(f"There is no module {name}: {path} does not exist")
            known = _application.moduleManager().module(name)
            module = _application.moduleManager().load_scripted(name, path)
            for needed in module.property("dependencies"):
                if (MODULES / needed / f"{needed}.py").is_file():
                    load(needed)
            if known is None:
                _application.startupCompleted.emit()
        return slicer.util.getModule(name)

    return load


@pytest.fixture
def widget_factory(scene, module_factory, process_events):
    """`widget_factory(name, folder=None)`: the module's Python widget, opened as in Slicer and closed at the end."""
    import slicer

    opened = []

    def open_module(name: str, folder: Path | None = None):
        module = module_factory(name, folder)
        slicer.util.selectModule(name)
        opened.append(module)
        widget = slicer.util.getModuleWidget(name)
        process_events(timeout=0.0)
        return widget

    yield open_module
    if _application is not None:
        slicer.util.moduleSelector().leave()
        for module in {id(entry): entry for entry in opened}.values():
            module._native._close_widget()
        process_events()
        host.delete_closed_widgets()
    elif opened:
        slicer.util.selectModule("Welcome")


@pytest.fixture(scope="module")
def warm_client():
    """One real worker for all tests of a file: only the first of them waits for torch."""
    from RegNetLib.worker_client import WorkerClient

    client = WorkerClient()
    yield client
    client.stop()


@pytest.fixture
def real_panel(widget_factory, monkeypatch, warm_client):
    """`real_panel(module)`: its panel on the real worker."""
    from RegNetLib import worker_client

    monkeypatch.setattr(worker_client, "_shared", warm_client)
    return widget_factory


@pytest.fixture
def press_apply(process_events):
    """`press_apply(panel)`: a run by the panel's button to its good end; gives the transform node."""

    def run(panel):
        assert panel.ui.applyButton.text == "Apply", panel.ui.applyButton.text
        panel.ui.applyButton.click()
        assert process_events(until=lambda: not panel.client.is_busy(), timeout=240)
        assert panel.ui.statusLabel.text.startswith("Done"), panel.ui.statusLabel.text
        return panel.parameters.resultTransform

    return run


class Messages:
    """What the module told the user, and the answer to its questions."""

    def __init__(self):
        self.infos: list[str] = []
        self.warnings: list[str] = []
        self.errors: list[str] = []
        self.questions: list[str] = []
        self.answer = True

    def ask(self, text, *_args, **_kwargs) -> bool:
        self.questions.append(text)
        return self.answer


@pytest.fixture
def messages(monkeypatch):
    """Replaces the message boxes of slicer.util."""
    import slicer

    told = Messages()

    def teller(level: int, texts: list[str]):
        def tell(text, *_args, **_kwargs) -> None:
            logging.log(level, text)
            texts.append(text)

        return tell

    monkeypatch.setattr(slicer.util, "infoDisplay", teller(logging.INFO, told.infos))
    monkeypatch.setattr(slicer.util, "warningDisplay", teller(logging.WARNING, told.warnings))
    monkeypatch.setattr(slicer.util, "errorDisplay", teller(logging.ERROR, told.errors))
    for name in ("confirmOkCancelDisplay", "confirmYesNoDisplay", "confirmRetryCloseDisplay"):
        if hasattr(slicer.util, name):
            monkeypatch.setattr(slicer.util, name, told.ask)
    return told


def _place(path, folder: Path) -> str:
    """Relative paths mean the test's own folder."""
    target = Path(path)
    return str(target if target.is_absolute() else folder / target)


@pytest.fixture
def grab(tmp_path):
    """`grab(widget, path, size=None)`: a widget as PNG; returns RGB (height, width, 3)."""
    import qt
    from host.pictures import read_png

    def draw(widget, path="panel.png", size=None):
        shown = widget if hasattr(widget, "grab") else widget.parent
        if size is not None:
            shown.resize(*size)
        image = shown.grab().toImage().convertToFormat(qt.QImage.Format_RGB888)
        target = _place(path, tmp_path)
        if not image.save(target):
            raise OSError(f"The picture cannot be written to {target}")
        return read_png(target)

    return draw


@pytest.fixture
def grab_slice(tmp_path, process_events):
    """`grab_slice(name, path=None, size=(400, 400))`: one slice view; returns RGB (height, width, 3).

    A real Slicer keeps the size its window gives.
    """
    import slicer
    from host.pictures import render_to_array, write_png

    def draw(name: str, path=None, size=(400, 400)):
        widget = slicer.app.layoutManager().sliceWidget(name)
        if _application is not None:
            widget._native._set_size(size)
        process_events(timeout=0.0)
        pixels = render_to_array(widget.sliceView().renderWindow())
        if path is not None:
            write_png(_place(path, tmp_path), pixels)
        return pixels

    return draw


@pytest.fixture
def grab_slices(tmp_path, grab_slice):
    """`grab_slices(path, size=(400, 400))`: Red, Yellow and Green side by side."""
    import numpy as np
    from host.pictures import write_png

    def draw(path="slices.png", size=(400, 400)):
        pictures = [grab_slice(name, None, size) for name in ("Red", "Yellow", "Green")]
        height = min(picture.shape[0] for picture in pictures)
        pixels = np.concatenate([picture[:height] for picture in pictures], axis=1)
        write_png(_place(path, tmp_path), pixels)
        return pixels

    return draw


@pytest.fixture
def python_without_gui():
    """`python_without_gui(code)`: run code as PythonSlicer does (`qt` and `ctk` are empty); a CompletedProcess."""

    def run(code: str) -> subprocess.CompletedProcess:
        folders = [str(HERE / "host" / "no_gui")] if _application is not None else []
        folders += [str(folder) for folder in sorted(MODULES.iterdir()) if folder.is_dir()]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(folders)}
        command = [shutil.which("PythonSlicer") or sys.executable, "-c", code]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)

    return run
