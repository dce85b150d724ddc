"""The Python packages that the worker needs: looked for, and installed after asking, when a run is started."""

from __future__ import annotations

import importlib
import importlib.metadata
import logging
import re
from importlib.util import find_spec
from pathlib import Path

import slicer
from slicer.i18n import tr as _

REQUIREMENTS = Path(__file__).resolve().parent.parent / "Resources" / "requirements.txt"
TORCH_REQUIREMENT = ">=2.4"


class DependencyError(Exception):
    """A package is missing and was not installed; the message is one sentence for the user."""


def ensure_dependencies() -> None:
    """Make sure that the worker can start, asking before anything is installed.

    Raises:
        DependencyError: the user declined, or an installation failed.
    """
    if find_spec("torch") is None:
        _install_torch()
    _install_requirements()


def are_complete() -> bool:
    """Whether the worker could start as things are. Imports, installs and asks nothing."""
    return find_spec("torch") is not None and not missing_requirements()


def missing_requirements() -> list[str]:
    """The lines of the requirements file whose package is not installed. Imports nothing."""
    return [line for line in _requirements() if not _is_installed(line)]


def _requirements() -> list[str]:
    lines = REQUIREMENTS.read_text(encoding="utf-8").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def _is_installed(requirement: str) -> bool:
    name = re.match(r"[A-Za-z0-9_.-]+", requirement).group()
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _install_torch() -> None:
    """Install torch through the PyTorch extension, which finds the build for this computer's graphics card."""
    try:
        import PyTorchUtils
    except ImportError:
        raise DependencyError(
            _(
                "RegNet needs PyTorch: install the extension named PyTorch in the Extensions Manager, restart Slicer, "
                "and press Apply again."
            )
        ) from None
    try:
        logic = PyTorchUtils.PyTorchUtilsLogic()
        torch = logic.installTorch(askConfirmation=True, torchVersionRequirement=TORCH_REQUIREMENT)
    except Exception as error:
        logging.exception("PyTorch could not be installed")
        raise DependencyError(_("PyTorch could not be installed: {reason}").format(reason=error)) from error
    if torch is None:
        raise DependencyError(_("RegNet needs PyTorch, which was not installed; press Apply to be asked again."))
    importlib.invalidate_caches()


def _install_requirements() -> None:
    """Install small packages: with Slicer's own dialogue where it has one, else after asking here."""
    try:
        if _has_packaging():
            slicer.packaging.pip_ensure(slicer.packaging.load_requirements(str(REQUIREMENTS)), requester="RegNet")
        elif missing := missing_requirements():
            _ask_and_install(missing)
    except DependencyError:
        raise
    except Exception as error:
        logging.exception("Python packages could not be installed")
        raise DependencyError(
            _("The Python packages that RegNet needs were not installed: {reason}").format(reason=error)
        ) from error
    importlib.invalidate_caches()


def _has_packaging() -> bool:
    try:
        import slicer.packaging
    except ImportError:
        return False
    return hasattr(slicer.packaging, "pip_ensure")


def _ask_and_install(missing: list[str]) -> None:
    names = ", ".join(missing)
    if not slicer.util.confirmOkCancelDisplay(
        _("RegNet needs these Python packages: {names}. Download and install them now?").format(names=names)
    ):
        raise DependencyError(
            _("RegNet needs these Python packages, which were not installed: {names}.").format(names=names)
        )
    slicer.util.pip_install(" ".join(f'"{line}"' for line in missing))
