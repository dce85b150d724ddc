"""Signals as PythonQt connects them: by signature or attribute, a slot receiving as many arguments as it can take.

A native class of this host may show signals with C++ types that PySide6 cannot declare: `host_signals` lists them,
a dictionary from signature to the name of the real PySide6 signal.
"""

from __future__ import annotations

import functools
import inspect
import types

import shiboken6
from PySide6 import QtCore

from . import errors

# Per native object (its address): the connections made, held strongly until it is destroyed.
_connections: dict[int, list[tuple[str, object, object, object]]] = {}


def parameter_count(function) -> int | None:
    """How many positional arguments PythonQt passes at most; None: all (`*args`, partial objects, Qt's methods)."""
    bound = isinstance(function, types.MethodType)
    plain = function.__func__ if bound else function
    if not isinstance(plain, types.FunctionType) or plain.__code__.co_flags & inspect.CO_VARARGS:
        return None
    return plain.__code__.co_argcount - bound


def guarded(function, wrap, limit: int | None = None):
    """`function` as a slot: arguments wrapped and cut to what it takes, exceptions collected."""
    count = parameter_count(function)

    def slot(*args):
        args = args[:limit] if limit is not None else args
        try:
            return function(*[wrap(value) for value in (args if count is None else args[:count])])
        except Exception as error:
            errors.record(error)

    return slot


@functools.cache
def _class_signals(native_class: type) -> dict[str, str]:
    """Signature → attribute holding the PySide6 signal."""
    if not issubclass(native_class, QtCore.QObject):
        return {}
    meta = native_class.staticMetaObject
    methods = [meta.method(i) for i in range(meta.methodCount())]
    found = {
        bytes(method.methodSignature().data()).decode(): bytes(method.name().data()).decode()
        for method in methods
        if method.methodType() == QtCore.QMetaMethod.Signal
    }
    for klass in native_class.__mro__:
        declared = klass.__dict__.get("host_signals", {})
        hidden = set(declared.values())
        found = {signature: name for signature, name in found.items() if name not in hidden}
        found.update(declared)
    return found


def _overloads(native, name: str) -> list[str]:
    return [signature for signature in _class_signals(type(native)) if signature.split("(")[0] == name]


def has_signal(native, name: str) -> bool:
    """Whether the object has a signal of that name."""
    return bool(_overloads(native, name))


def _resolve(native, signature: str) -> str:
    normalized = bytes(QtCore.QMetaObject.normalizedSignature(signature).data()).decode()
    if normalized not in _class_signals(type(native)):
        name = normalized.split("(")[0]
        known = _overloads(native, name) or sorted(_class_signals(type(native)))
        raise errors.UnknownSignalError(
            f"{type(native).__name__} has no signal '{signature}' (Slicer would only print that); "
            f"it has {', '.join(known)}"
        )
    return normalized


def _bound(native, signature: str):
    """The PySide6 signal for one signature, the right overload chosen."""
    attribute = _class_signals(type(native))[signature]
    signal = getattr(native, attribute)
    types_text = signature[signature.index("(") + 1 : -1]
    same = [key for key, value in _class_signals(type(native)).items() if value == attribute]
    overloaded = len(same) > 1 and attribute == signature.split("(")[0]
    return signal[types_text] if overloaded and types_text else signal


def _connect(native, signature: str, function) -> bool:
    from .qt_adapter import wrap

    types_text = signature[signature.index("(") + 1 : -1]
    slot = guarded(function, wrap, limit=len(types_text.split(",")) if types_text else 0)
    address = shiboken6.getCppPointer(native)[0]
    if address not in _connections:
        _connections[address] = []
        native.destroyed.connect(lambda *_: _connections.pop(address, None))
    # The connection keeps a reference to the signal object: PySide6 disconnects through it.
    signal = _bound(native, signature)
    signal.connect(slot)
    _connections[address].append((signature, function, slot, signal))
    return True


def _receiver_slot(args):
    """The callable meant by `(callable)` or by `(receiver, "slot(…)")`."""
    if len(args) == 1 and callable(args[0]):
        return args[0]
    if len(args) >= 2 and isinstance(args[1], str):
        return getattr(args[0], args[1].split("(")[0])
    raise ValueError(
        f"connect() takes a signature and a callable, or a signature, a receiver and a slot signature (got {args!r})"
    )


def connect(native, *args) -> bool:
    """`connect(signature, callable)`, `connect(signature, receiver, slot)`, or with the sender first."""
    native, args = _sender_first(native, args)
    return _connect(native, _resolve(native, args[0]), _receiver_slot(args[1:]))


def _sender_first(native, args):
    if args and not isinstance(args[0], str):
        return args[0]._native, args[1:]
    return native, args


def disconnect(native, *args) -> bool:
    """Remove the connections of a signature, all of them or those to one callable. True when there was one."""
    native, args = _sender_first(native, args)
    signature = _resolve(native, args[0])
    function = _receiver_slot(args[1:]) if len(args) > 1 and args[1] is not None else None
    return _disconnect(native, [signature], function)


def _disconnect(native, signatures: list[str], function) -> bool:
    known = _connections.get(shiboken6.getCppPointer(native)[0], [])
    gone = [entry for entry in known if entry[0] in signatures and (function is None or entry[1] == function)]
    for entry in gone:
        entry[3].disconnect(entry[2])
        known.remove(entry)
    return bool(gone)


def connection_count(native) -> int:
    """How many Python handlers are connected to an object (tests look for leaks with it)."""
    return len(_connections.get(shiboken6.getCppPointer(native)[0], []))


class SignalProxy:
    """`widget.clicked`: connect, disconnect, emit; calling it emits."""

    def __init__(self, native, name: str):
        self._native, self._name = native, name

    def _signature(self) -> str:
        # PythonQt takes the first declared one, which is the one with all its arguments.
        return _overloads(self._native, self._name)[0]

    def connect(self, *args) -> bool:
        return _connect(self._native, self._signature(), _receiver_slot(args))

    def disconnect(self, *args) -> bool:
        function = _receiver_slot(args) if args and args[0] is not None else None
        return _disconnect(self._native, _overloads(self._native, self._name), function)

    def emit(self, *args) -> None:
        from .qt_adapter import unwrap

        _bound(self._native, self._signature()).emit(*[unwrap(value) for value in args])

    __call__ = emit
