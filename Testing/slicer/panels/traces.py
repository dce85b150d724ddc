"""What a run leaves behind, in the scene and on the disk."""

from __future__ import annotations

from pathlib import Path


def nodes(scene, kind: str) -> list[str]:
    return [scene.GetNthNodeByClass(index, kind).GetName() for index in range(scene.GetNumberOfNodesByClass(kind))]


def leftovers() -> list[Path]:
    """What runs have not removed. The volumes' files stay for the next run, see :func:`kept_images`."""
    import slicer

    return sorted(set(Path(slicer.app.temporaryPath).glob("regnet-*")) - set(kept_images()))


def kept_images() -> list[Path]:
    """The folders of the volumes' files."""
    import slicer
    from RegNetLib.sent_images import PREFIX

    return sorted(Path(slicer.app.temporaryPath).glob(f"{PREFIX}*"))
