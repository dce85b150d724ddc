"""What many runs could leave behind: nodes, files, processes, threads, descriptors, observers, connections, objects."""

from __future__ import annotations

import collections
import enum
import gc
import logging
import tempfile
import types
from pathlib import Path

import psutil

WORKER = "regnet.worker"
"""In the command line of every worker process."""


class Log(logging.Handler):
    """Errors that the application, or VTK, has told."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.found: list[str] = []

    def emit(self, record) -> None:
        kind = record.exc_info[0] if record.exc_info else None
        told = kind is ValueError  # a sentence for the user, which is logged with its traceback
        if (record.levelno >= logging.ERROR or kind) and not told and not record.msg.startswith("The RegNet worker e"):
            self.found.append(f"{record.getMessage()} {record.exc_info or ''}")


def workers() -> list[psutil.Process]:
    """The worker processes of this one, at whatever depth."""
    return [child for child in children() if WORKER in " ".join(_command(child))]


def children() -> list[psutil.Process]:
    """All processes that this one has started and that are still there, those that only wait to be collected too."""
    return psutil.Process().children(recursive=True)


def _command(process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def memory_mb(process_id: int | None = None) -> float:
    """Resident memory of this process, without what the C library keeps of freed blocks, or of another one."""
    from regnet.allocator import release_freed_memory

    if process_id is None:
        release_freed_memory()
    return psutil.Process(process_id).memory_info().rss / 2**20


def files() -> set[Path]:
    """Everything in the temporary folders of Slicer and of this process, which is to have one of its own."""
    import slicer

    roots = {Path(slicer.app.temporaryPath), Path(tempfile.gettempdir())}
    return {path for root in roots for path in root.rglob("*")}


def private_folders() -> set[Path]:
    """The folders in which arrays are handed to the worker."""
    import slicer

    roots = {Path(slicer.app.temporaryPath), Path(tempfile.gettempdir())}
    return {path for root in roots for path in root.glob("regnet-*")}


def nodes() -> dict[str, str]:
    """The scene's nodes: class by identity."""
    import slicer

    found = slicer.mrmlScene.GetNodes()
    every = [found.GetItemAsObject(index) for index in range(found.GetNumberOfItems())]
    return {node.GetID(): node.GetClassName() for node in every}


def orphans() -> list[str]:
    """Display and storage nodes that no node refers to, of those that are not the application's own."""
    import slicer

    found = slicer.mrmlScene.GetNodes()
    every = [found.GetItemAsObject(index) for index in range(found.GetNumberOfItems())]
    wanted = set()
    for node in every:
        roles: list[str] = []
        node.GetNodeReferenceRoles(roles)
        for role in roles:
            wanted |= {node.GetNthNodeReferenceID(role, n) for n in range(node.GetNumberOfNodeReferences(role))}
    kinds = ("vtkMRMLDisplayNode", "vtkMRMLStorageNode")
    return [
        f"{node.GetClassName()} {node.GetID()}"
        for node in every
        if any(node.IsA(kind) for kind in kinds) and node.GetID() not in wanted and not node.GetSingletonTag()
    ]


def census() -> dict[str, int]:
    """How many there are of everything that must not grow. Take it when nothing is being done."""
    import host
    import slicer
    from host import qt_signals
    from PySide6 import QtCore

    for _ in range(3):
        slicer.app.processEvents()
        host.delete_closed_widgets()
        gc.collect()
    process = psutil.Process()
    found: collections.Counter[str] = collections.Counter()
    for name in nodes().values():
        found[f"node {name}"] += 1
    for entry in gc.get_objects():
        kind = type(entry)
        if issubclass(kind, types.MethodType):  # asking the entry itself would wake what is lazy
            # A handler that is connected, or observes: Qt and VTK hold it until it is taken back.
            function = entry.__func__  # or any other callable
            name = f"{getattr(function, '__module__', '')}.{getattr(function, '__qualname__', '')}"
            found[f"method {name}"] += name.startswith(("RegNet", "slicer.", "host."))
        elif str(getattr(kind, "__module__", "")).startswith("RegNetLib") and not issubclass(kind, enum.Enum):
            found[f"object {kind.__module__}.{kind.__qualname__}"] += 1
        elif issubclass(kind, (QtCore.QTimer, QtCore.QProcess)):
            found[f"Qt {kind.__name__}"] += 1
            found["running timers"] += isinstance(entry, QtCore.QTimer) and entry.isActive()
    found["observers of the scene"] = str(slicer.mrmlScene).count("vtkObserver (")
    found["connections"] = sum(map(len, qt_signals._connections.values()))
    found["threads"] = process.num_threads()
    found["descriptors"] = process.num_fds()
    found["processes"] = len(children())
    private = private_folders()
    found["private folders"] = len(private)
    found["other files"] = sum(private.isdisjoint([path, *path.parents]) for path in files())
    return dict(found)


def growth(before: dict[str, int], after: dict[str, int], allowed: dict[str, int] | None = None) -> list[str]:
    """What there is more of than before, but for as many as are ``allowed``."""
    more = {name: count - before.get(name, 0) for name, count in after.items()}
    return [
        f"{name}: {before.get(name, 0)} before, {after[name]} now"
        for name, extra in sorted(more.items())
        if extra > (allowed or {}).get(name, 0)
    ]
