"""A stand-in for ``python -m regnet.worker``: it speaks the same protocol and registers nothing.

``python fake_worker.py MODE`` with MODE one of: ``shift`` (a known transform at once), ``slow`` (three seconds of
progress, can be cancelled), ``deaf`` (the same, but never obeys a cancel), ``crash`` (dies in the middle), ``refuse``
(answers with one sentence), ``garbage`` (noise on its output, then as ``shift``), ``mute`` (never becomes ready),
``improve`` (up to ten seconds of an optimisation with ten previews a second, can be cancelled and stopped), ``picky``
(as ``shift``, but refuses a fixed image with an intensity above 1000), ``refuse-MODEL`` and ``slow-MODEL`` (as
``refuse`` and ``slow`` for that model, as ``shift`` for others). A seed moves the transform by as many millimetres.
Where the model's parameter ``translation`` asks for a synthetic image, it sends one, and where ``fusion`` does not say
``off``, a fused one. It also answers ``fuse``, ``correct``, and ``propagate``, with the nearest voxels, and ``warm``.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
import time
from pathlib import Path

import numpy as np

AFFINE = [[1.02, 0.03, 0.0, 4.0], [-0.02, 0.98, 0.05, -3.0], [0.0, -0.04, 1.01, 2.0], [0.0, 0.0, 0.0, 1.0]]
"""What ``shift`` answers, LPS mm, fixed to moving."""


def displacement(shape: tuple[int, int, int]) -> np.ndarray:
    """(D, H, W, 3) float32 mm: smooth, up to 6 mm, different along each axis and component, zero at the border."""
    z, y, x = np.meshgrid(*(np.linspace(0, 1, n) if n > 1 else np.array([0.5]) for n in shape), indexing="ij")
    bump = np.sin(np.pi * x) * np.sin(np.pi * y) * np.sin(np.pi * z)
    field = np.stack([6 * bump * np.cos(3 * y), -4 * bump * np.sin(2 * x + 1), 3 * bump * (0.3 + z)], -1)
    return field.astype(np.float32)


def translated(image: np.ndarray) -> np.ndarray:
    """What stands for the moving image in another contrast: float32 in [0, 1], bright where ``image`` is dark."""
    low, high = float(image.min()), float(image.max())
    return ((high - image) / (high - low)).astype(np.float32)


def fused(fixed: np.ndarray, colours: dict | None) -> np.ndarray:
    """What stands for the fused image: float32 (1, D, H, W), or uint8 (3, D, H, W) where there are colours."""
    if colours is None:
        return (0.5 * fixed + 7.0).astype(np.float32)[None]
    low, high = float(fixed.min()), float(fixed.max())
    bright = ((fixed - low) / (high - low))[None] * np.array([255.0, 128.0, 30.0]).reshape(3, 1, 1, 1)
    return np.rint(bright).astype(np.uint8)


FUSION = {"mode": "slices", "weights": "ct-mri", "reason": "the volume would need 299 MB"}


def send(message: dict) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def file_of(request: dict, name: str) -> Path:
    """Of an array of the request, or of a volume that is kept for more requests than this one."""
    kept = request[name].get("kept", False)
    return Path(request["kept_folder" if kept else "folder"]) / request[name]["file"]


def answer_fusion(request: dict) -> dict:
    folder = Path(request["folder"])
    fixed = np.load(file_of(request, "fixed"), allow_pickle=False)
    np.save(folder / "fused.npy", fused(fixed, request["colours"]))
    place = {"index_to_world": request["fixed"]["index_to_world"], "ndim": request["fixed"]["ndim"]}
    return {"fused": {"file": "fused.npy", **place}, "report": {**FUSION, "weights": request["weights"]}}


def answer(request: dict) -> dict:
    folder = Path(request["folder"])
    fixed = np.load(file_of(request, "fixed"), allow_pickle=False)
    np.save(folder / "displacement.npy", displacement(fixed.shape))
    np.save(folder / "warped.npy", fixed.astype(np.float32) + 0.25)
    place = {"index_to_world": request["fixed"]["index_to_world"], "ndim": request["fixed"]["ndim"]}
    report = {
        "model": request["model"], "weights": None, "device": "cpu", "similarity_before": 0.5, "similarity_after": 0.9,
        "folding_percent": 0.0, "sdlogj": 0.1, "time_s": {"total": 1.5, "align": 0.5}, "peak_memory_mb": 321.0,
        "working_grid": {"shape": list(fixed.shape), "spacing": [1.0, 1.0, 1.0]}, "warnings": ["A test warning."],
    }  # fmt: skip
    affine = [list(row) for row in AFFINE]
    affine[0][3] += request.get("seed", 0)
    result = {
        "affine": affine,
        "displacement": {"file": "displacement.npy", **place},
        "warped": {"file": "warped.npy", **place},
        "fused": None,
        "synthetic": None,
        "report": report,
    }
    if request.get("parameters", {}).get("fusion", "off") != "off":
        np.save(folder / "fused.npy", fused(fixed, request["colours"]))
        result["fused"], report["fusion"] = {"file": "fused.npy", **place}, FUSION
    if request.get("parameters", {}).get("translation"):
        np.save(folder / "synthetic.npy", translated(fixed)[None])
        result["synthetic"] = {"file": "synthetic.npy", **place}
    return result


FOLD = (5, 6, 7)
"""Array index of the fixed volume at which ``judge`` finds the one fold."""
JUDGED = {
    "verdict": "red",
    "reasons": ["A fold was found.", "It does not fit."],
    "problems": [{"kind": "folds", "level": "red", "text": "A fold was found."}],
    "numbers": {"settled_percent": 12.5, "settled_mm": 4.0, "linear_scale": 1.0, "folded_percent": 0.1,
                "displacement_max_mm": 8.0},
}  # fmt: skip


def answer_judgement(request: dict) -> dict:
    """Half of the volume shrinks, the other half grows, and one voxel folds."""
    folder, matrix = Path(request["folder"]), np.array(request["fixed"]["index_to_world"])
    shape = np.load(file_of(request, "fixed"), allow_pickle=False).shape
    determinant = np.full(shape, 0.6, np.float32)
    determinant[shape[0] // 2 :] = 1.6
    determinant[FOLD] = -0.4
    arrays = {"jacobian": determinant, "displacement": np.full(shape, 8.0, np.float32)}
    place = {"index_to_world": request["fixed"]["index_to_world"], "ndim": request["fixed"]["ndim"]}
    for name, array in arrays.items():
        np.save(folder / f"map-{name}.npy", array)
    if request["page"]:
        (folder / "report.html").write_text("<html>judged</html>", encoding="utf-8")
    at = (matrix @ [*FOLD[::-1], 1.0])[:3].tolist()
    numbers = {**JUDGED["numbers"], "smallest_determinant_at": at, "displacement_max_at": matrix[:3, 3].tolist()}
    segments = [{"name": one["name"], "dice": 0.8, "hd95_mm": 2.0} for one in request.get("moving_segments") or []]
    return {
        "maps": {name: {"file": f"map-{name}.npy", **place} for name in arrays},
        "page": "report.html" if request["page"] else None,
        "report": {**JUDGED, "numbers": numbers, **({"segments": segments} if segments else {})},
    }


def placed(request: dict, name: str) -> tuple[np.ndarray, np.ndarray]:
    """An array of the request, (layers, D, H, W), and its index-to-world matrix."""
    array = np.load(file_of(request, name), allow_pickle=False)
    return array.reshape(-1, *array.shape[-3:]), np.array(request[name]["index_to_world"])


def at(points: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    return points @ matrix[:3, :3].T + matrix[:3, 3]


def nearest(array: np.ndarray, matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """(layers, D, H, W) read at world points (..., 3), 0 outside."""
    index = np.rint(at(points, np.linalg.inv(matrix))).astype(int)[..., ::-1]
    inside = ((index >= 0) & (index < array.shape[1:])).all(axis=-1)
    index[~inside] = 0
    return np.where(inside, array[:, index[..., 0], index[..., 1], index[..., 2]], 0)


def answer_propagation(request: dict) -> dict:
    from scipy import ndimage

    folder, shape = Path(request["folder"]), request["target"]["shape"]
    place = np.array(request["target"]["index_to_world"])
    world = at(np.moveaxis(np.indices(shape), 0, -1)[..., ::-1], place)
    points = world
    for step in request["transforms"]:
        if step["displacement"]:
            field = np.load(folder / step["displacement"]["file"], allow_pickle=False)
            index = at(points, np.linalg.inv(step["displacement"]["index_to_world"]))[..., ::-1]
            where = np.moveaxis(index, -1, 0)
            moved = [ndimage.map_coordinates(field[..., n], where, order=1, mode="nearest") for n in range(3)]
            points = points + np.stack(moved, -1)
        points = at(points, np.array(step["affine"]))
    labels, matrix = placed(request, "labels")
    result = nearest(labels, matrix, points)
    np.save(folder / "labels.npy", result)
    rows = []
    for segment in request["segments"]:
        before, after = (array[segment["layer"]] == segment["value"] for array in (labels, result))
        volumes = [abs(np.linalg.det(m[:3, :3])) / 1000 for m in (matrix, place)]
        row = {
            **segment, "share_in_view": 1.0, "source_voxels": int(before.sum()), "voxels": int(after.sum()),
            "source_volume_ml": float(before.sum() * volumes[0]), "volume_ml": float(after.sum() * volumes[1]),
        }  # fmt: skip
        if request.get("reference"):
            given = {entry["name"]: entry for entry in request["reference_segments"]}.get(segment["name"])
            row["dice"] = None
            if given is not None:
                truth = nearest(*placed(request, "reference"), world)[given["layer"]] == given["value"]
                row["dice"] = float(2 * (truth & after).sum() / (truth.sum() + after.sum()))
        rows.append(row)
    sent = {"file": "labels.npy", "index_to_world": request["target"]["index_to_world"], "ndim": 3}
    return {"labels": sent, "report": {"segments": rows, "warnings": ["A test warning."]}}


def answer_correction(request: dict) -> dict:
    """:func:`displacement` before the transforms that were sent."""
    folder = Path(request["folder"])
    shape = np.load(file_of(request, "fixed"), allow_pickle=False).shape
    np.save(folder / "corrected-0.npy", displacement(shape))
    place = {"index_to_world": request["fixed"]["index_to_world"], "ndim": request["fixed"]["ndim"]}
    step = {"affine": np.eye(4).tolist(), "displacement": {"file": "corrected-0.npy", **place}}
    points = [{"before_mm": 5.0 + n, "after_mm": 0.5} for n in range(len(request["fixed_points"]))]
    report = {
        "mode": request["mode"], "reach_mm": request["reach"] or 30.0, "points": points, "time_s": {"total": 0.7},
        "folding_percent": 0.0, "largest_change_mm": 6.0, "warnings": ["A test warning."],
    }  # fmt: skip
    return {"transforms": [step, *request["transforms"]], "report": report}


def work_slowly(request: dict, cancelled: threading.Event, obedient: bool) -> bool:
    """Three seconds of progress; False if cancelled."""
    for step in range(60):
        send({"id": request["id"], "event": "progress", "fraction": step / 60, "stage": request["command"], "text": ""})
        time.sleep(0.05)
        if obedient and cancelled.is_set():
            return False
    return True


def preview_fields(shape: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """A coarse field over a volume's corners, and its voxels in the volume's: what previews grow towards."""
    coarse = tuple(max(2, n // 3) for n in shape)
    steps = [(n - 1) / (m - 1) for n, m in zip(shape, coarse, strict=True)]
    return displacement(coarse), np.diag([*steps[::-1], 1.0])


def improve(request: dict, cancelled: threading.Event, stopped: threading.Event) -> bool:
    """Ten seconds of an optimisation; False if cancelled."""
    folder, identity = Path(request["folder"]), request["id"]
    matrix = np.array(request["fixed"]["index_to_world"])
    field, steps = preview_fields(np.load(file_of(request, "fixed"), allow_pickle=False).shape)
    for step in range(100):
        progress = {"event": "progress", "fraction": step / 100, "stage": "refine 2x", "text": "", "can_stop": True}
        send({"id": identity, **progress})
        if request.get("preview"):
            name = f"preview-{step}.npy"
            np.save(folder / name, (field * np.float32(0.1 + step / 100)))
            place = {"file": name, "index_to_world": (matrix @ steps).tolist(), "ndim": request["fixed"]["ndim"]}
            send({"id": identity, "event": "preview", "stage": "refine 2x", "affine": AFFINE, "displacement": place})
            (folder / f"preview-{step - 2}.npy").unlink(missing_ok=True)
        time.sleep(0.1)
        if cancelled.is_set():
            return False
        if stopped.is_set():
            break
    send({"id": identity, "event": "progress", "fraction": 0.95, "stage": "export", "text": "", "can_stop": False})
    if stopped.is_set():
        send({"id": identity, "event": "message", "level": "warning", "text": "Stopped early, as asked."})
        time.sleep(0.3)
    return True


def serve(mode: str, request: dict, cancelled: threading.Event, stopped: threading.Event) -> None:
    identity = request["id"]
    if request["command"] == "warm":
        send({"id": identity, "event": "warm", "complete": True})
        return
    send({"id": identity, "event": "progress", "fraction": 0.1, "stage": "align", "text": "searching"})
    send({"id": identity, "event": "message", "level": "warning", "text": "A test warning."})
    if mode == "crash":
        print("about to die", file=sys.stderr, flush=True)
        os._exit(9)
    if mode in ("refuse", f"refuse-{request.get('model')}"):
        send({"id": identity, "event": "failed", "kind": "input", "text": "The images do not overlap; move one."})
        return
    if mode == "picky" and request["command"] == "register" and placed(request, "fixed")[0].max() > 1000:
        send({"id": identity, "event": "failed", "kind": "input", "text": "The fixed image is too bright."})
        return
    if mode == "improve" and not improve(request, cancelled, stopped):
        send({"id": identity, "event": "failed", "kind": "cancelled", "text": "Cancelled; nothing was changed."})
        return
    slow = mode in ("slow", "deaf", f"slow-{request.get('model')}")
    if slow and not work_slowly(request, cancelled, mode != "deaf"):
        send({"id": identity, "event": "failed", "kind": "cancelled", "text": "Cancelled; nothing was changed."})
        return
    works = {
        "fuse": answer_fusion,
        "propagate": answer_propagation,
        "register": answer,
        "correct": answer_correction,
        "judge": answer_judgement,
    }
    send({"id": identity, "event": "done", "result": works[request["command"]](request)})


def main(mode: str) -> None:
    requests, cancelled, stopped = queue.Queue(), threading.Event(), threading.Event()

    def read() -> None:
        for line in sys.stdin:
            request = json.loads(line)
            if request["command"] == "cancel":
                cancelled.set()
            elif request["command"] == "stop":
                stopped.set()
            else:
                requests.put(request)
        requests.put(None)

    threading.Thread(target=read, daemon=True).start()
    if mode == "garbage":
        sys.stdout.write('Traceback: not JSON\n[1, 2]\n{"event": "surprise"}\n')
    if mode != "mute":
        send({"event": "ready", "version": "0", "device": "cpu"})
    while (request := requests.get()) is not None:
        cancelled.clear()
        stopped.clear()
        serve(mode, request, cancelled, stopped)


if __name__ == "__main__":
    main(sys.argv[1])
