"""Python subclasses of Qt classes: native classes whose virtual methods call the Python ones."""

from __future__ import annotations

import functools
import types

from . import errors

# Where a native object keeps its wrapper.
CACHE = "_host_wrapper"


@functools.cache
def shell_class(wrapper_type: type) -> type:
    """For a Python subclass: a native class whose virtual methods call the Python ones."""
    native = wrapper_type._native_class
    if "_native_class" in wrapper_type.__dict__:
        return native
    namespace: dict = {"_host_shell": True}
    for klass in wrapper_type.__mro__:
        if "_native_class" in klass.__dict__:
            break
        for key, value in klass.__dict__.items():
            if isinstance(value, types.FunctionType) and not key.startswith("_") and hasattr(native, key):
                namespace.setdefault(key, _forward(native, key))
    return type(native)(wrapper_type.__name__, (native,), namespace)


def _forward(native_class: type, name: str):
    from .qt_adapter import unwrap, wrap

    def method(self, *args):
        wrapper = self.__dict__.get(CACHE)
        if wrapper is not None:
            try:
                return unwrap(getattr(wrapper, name)(*[wrap(value) for value in args]))
            except Exception as error:
                errors.record(error)
        return getattr(native_class, name)(self, *args)

    return method
