"""What a run leaves behind, in the scene and on the disk."""

from __future__ import annotations

from pathlib import Path


def nodes(scene, kind: str) -> list[str]:
    return [scene.GetNthNodeByClass(index, kind).GetName() for index in range(scene.GetNumberOfNodesByClass(kind))]


def leftovers() -> list[Path]:
    import slicer

    return list(Path(slicer.app.temporaryPath).glob("regnet-*"))
