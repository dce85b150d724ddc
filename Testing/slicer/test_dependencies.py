"""What is asked for before a run, and what happens when the user says no. Nothing is ever installed here."""

from __future__ import annotations

import sys
import types

import pytest


@pytest.fixture
def dependencies(scene, messages, monkeypatch):
    """The module under test, with everything present; nothing can be installed in earnest."""
    import slicer
    from RegNetLib import dependencies

    installed = []
    monkeypatch.setattr(slicer.util, "pip_install", installed.append)
    monkeypatch.setattr(dependencies, "installed_for_test", installed, raising=False)
    return dependencies


def without_torch(dependencies, monkeypatch, install):
    """No torch, and a PyTorch extension whose ``installTorch`` is ``install`` (None: no such extension)."""
    monkeypatch.setattr(dependencies, "find_spec", lambda name: None)
    if install is None:
        monkeypatch.setitem(sys.modules, "PyTorchUtils", None)
    else:
        extension = types.ModuleType("PyTorchUtils")
        extension.PyTorchUtilsLogic = lambda: types.SimpleNamespace(installTorch=install)
        monkeypatch.setitem(sys.modules, "PyTorchUtils", extension)


def without_packaging(dependencies, monkeypatch, missing):
    """A Slicer 5.10, which has no slicer.packaging, and which lacks the packages ``missing``."""
    monkeypatch.setattr(dependencies, "_has_packaging", lambda: False)
    monkeypatch.setattr(dependencies, "_is_installed", lambda line: line.split(">")[0] not in missing)


def test_nothing_is_asked_when_everything_is_there(dependencies, messages):
    dependencies.ensure_dependencies()
    assert messages.questions == [] and dependencies.installed_for_test == []
    assert dependencies.missing_requirements() == []


def test_torch_is_installed_by_the_pytorch_extension(dependencies, monkeypatch):
    asked = []
    without_torch(dependencies, monkeypatch, lambda **options: asked.append(options) or object())
    dependencies.ensure_dependencies()
    assert asked == [{"askConfirmation": True, "torchVersionRequirement": ">=2.4"}]
    assert dependencies.installed_for_test == []  # never by pip


def test_declining_torch(dependencies, monkeypatch):
    without_torch(dependencies, monkeypatch, lambda **options: None)
    with pytest.raises(dependencies.DependencyError, match="was not installed; press Apply"):
        dependencies.ensure_dependencies()


def test_no_pytorch_extension(dependencies, monkeypatch):
    without_torch(dependencies, monkeypatch, None)
    with pytest.raises(dependencies.DependencyError, match="Extensions Manager"):
        dependencies.ensure_dependencies()


def test_failing_torch_installation(dependencies, monkeypatch):
    def fail(**_options):
        raise OSError("no network")

    without_torch(dependencies, monkeypatch, fail)
    with pytest.raises(dependencies.DependencyError, match="could not be installed: no network"):
        dependencies.ensure_dependencies()


def test_slicer_packaging_is_used_where_it_exists(dependencies, monkeypatch):
    import slicer

    given = {}

    def ensure(requirements, requester):
        given.update(names=sorted(entry.name for entry in requirements), requester=requester)

    monkeypatch.setattr(slicer.packaging, "pip_ensure", ensure)
    dependencies.ensure_dependencies()
    assert given == {"names": ["psutil", "pydantic", "safetensors"], "requester": "RegNet"}


def test_declining_in_slicers_own_dialogue(dependencies, monkeypatch):
    import slicer

    def refuse(requirements, requester):
        raise RuntimeError("User declined package installation")

    monkeypatch.setattr(slicer.packaging, "pip_ensure", refuse)
    with pytest.raises(dependencies.DependencyError, match="were not installed: User declined"):
        dependencies.ensure_dependencies()


def test_older_slicer_asks_first(dependencies, messages, monkeypatch):
    without_packaging(dependencies, monkeypatch, {"pydantic"})
    dependencies.ensure_dependencies()
    assert len(messages.questions) == 1 and "pydantic" in messages.questions[0]
    assert dependencies.installed_for_test == ['"pydantic>=2.5"']


def test_older_slicer_respects_a_no(dependencies, messages, monkeypatch):
    without_packaging(dependencies, monkeypatch, {"safetensors", "psutil"})
    messages.answer = False
    with pytest.raises(dependencies.DependencyError, match="safetensors>=0.4, psutil>=5.9"):
        dependencies.ensure_dependencies()
    assert dependencies.installed_for_test == []


def test_the_run_stops_with_that_sentence(dependencies, monkeypatch, widget_factory):
    from volumes import add_volume, pattern

    without_torch(dependencies, monkeypatch, lambda **options: None)
    widget = widget_factory("RegNetAVSM")
    widget.parameters.fixedVolume = add_volume("fixed")
    widget.parameters.movingVolume = add_volume("moving", pattern(shift=(1, 2, 3)))
    widget.ui.applyButton.click()
    assert "RegNet needs PyTorch" in widget.ui.statusLabel.text
    assert widget.ui.applyButton.text == "Apply" and widget.ui.applyButton.enabled
    assert not widget.client.is_busy() and widget.client.process_id() == 0
