"""Modules that can be called like the function they are named after.

Once ``regnet.register`` is imported, Python puts the module where the package offers the function of that name; users
of ``regnet.register(...)`` must not notice.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any


def make_callable(name: str, function: Callable[..., Any]) -> None:
    """Let calls of the module ``name`` be calls of ``function``."""

    class CallableModule(ModuleType):
        __call__ = staticmethod(function)

    sys.modules[name].__class__ = CallableModule
