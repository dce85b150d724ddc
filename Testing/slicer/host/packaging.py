"""What installs packages: recorded, never run. slicer.packaging, slicer.util.pip_install, PyTorchUtils."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import types
from pathlib import Path

# Every installation asked for: ("pip", arguments) or ("torch", options).
installations: list[tuple[str, object]] = []


def pip_install(requirements, *args, **kwargs) -> None:
    """In place of slicer.util.pip_install."""
    installations.append(("pip", requirements))


def pip_uninstall(requirements, *args, **kwargs) -> None:
    installations.append(("uninstall", requirements))


def _requirements(value):
    from packaging.requirements import Requirement

    if isinstance(value, list | tuple):
        return [item if isinstance(item, Requirement) else Requirement(item) for item in value]
    return [value if isinstance(value, Requirement) else Requirement(value)]


def load_requirements(path):
    """The lines of a requirements file that name packages."""
    from packaging.requirements import Requirement

    lines = [line.strip() for line in Path(path).read_text(encoding="utf-8").splitlines()]
    return [Requirement(line) for line in lines if line and not line.startswith(("#", "-"))]


def pip_check(req) -> bool:
    """Whether the installed packages satisfy the requirements."""
    for requirement in _requirements(req):
        if requirement.marker is not None and not requirement.marker.evaluate():
            continue
        try:
            installed = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            return False
        if installed not in requirement.specifier:
            return False
    return True


def pip_ensure(
    requirements,
    constraints=None,
    skip_packages=None,
    prompt_install=True,
    prompt_restart=True,
    requester=None,
    skip_in_testing=True,
    show_progress=True,
):
    """Missing packages are asked for and recorded. RuntimeError when the user declines, as in Slicer."""
    import slicer

    missing = [str(entry) for entry in _requirements(requirements) if not pip_check(entry)]
    if not missing or (skip_in_testing and slicer.app.testingEnabled()):
        return
    if prompt_install and not slicer.util.confirmOkCancelDisplay(f"{requester} needs to install: {', '.join(missing)}"):
        raise RuntimeError("User declined package installation")
    pip_install(missing)


class PyTorchUtilsLogic:
    """The PyTorch extension's logic: torch of the tests' own environment counts as installed."""

    torch_present: bool | None = None

    def __init__(self):
        self._torch = None

    @classmethod
    def torchInstalled(cls) -> bool:
        return importlib.util.find_spec("torch") is not None if cls.torch_present is None else cls.torch_present

    def installTorch(
        self,
        askConfirmation=False,
        forceComputationBackend=None,
        torchVersionRequirement=None,
        torchvisionVersionRequirement=None,
    ):
        import slicer

        if askConfirmation and not slicer.util.confirmOkCancelDisplay("PyTorch will be downloaded and installed."):
            return None
        installations.append(("torch", {"backend": forceComputationBackend, "version": torchVersionRequirement}))
        type(self).torch_present = True
        return self.importTorch()

    def importTorch(self):
        return importlib.import_module("torch")

    @property
    def torch(self):
        self._torch = self._torch or self.importTorch()
        return self._torch

    @property
    def cuda(self) -> bool:
        return bool(self.torch.cuda.is_available())

    def getDevice(self):
        return self.torch.device("cuda") if self.cuda else "cpu"


def make_slicer_packaging() -> types.ModuleType:
    module = types.ModuleType("slicer.packaging", "Package management, recorded only")
    for function in (load_requirements, pip_check, pip_ensure, pip_install, pip_uninstall):
        setattr(module, function.__name__, function)
    return module


def make_pytorch_utils() -> types.ModuleType:
    module = types.ModuleType("PyTorchUtils", "The PyTorch extension")
    module.PyTorchUtilsLogic = PyTorchUtilsLogic
    return module


def reset() -> None:
    """Before each test."""
    installations.clear()
    PyTorchUtilsLogic.torch_present = None
