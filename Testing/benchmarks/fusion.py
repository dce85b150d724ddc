"""Benchmark: registration and fusion of two modalities in the plane, RegNet and its peers, where the truth is known.

    python Testing/benchmarks/fusion.py --data FOLDER
    python Testing/benchmarks/fusion.py --data FOLDER --methods ants --models bsafusion --slices 24
    python Testing/benchmarks/fusion.py --data FOLDER --split tuning --results trial.md --out trial
    python Testing/benchmarks/fusion.py --data FOLDER --pictures sheet.png

``fusion_cases.py`` says what the data folder holds, which cases there are and which of them settings may be chosen on;
``fusion_warps.py`` how one image of each is deformed; the report itself what is measured. A run that was cut short goes
on where it stopped: what is measured already stays, unless ``--fresh``; so with new weights, ``--fresh``. The tables
show everything of the split that is in the ``--out`` folder. A method that fails becomes a row that says so.

Rights to the cases' pictures are held, so ``--pictures`` shows other images, whose licences allow it.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import json
import os
import shlex
import shutil
import signal
import sys
from collections.abc import Iterable
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "RegNetModules" / "RegNet")]

import fusion_cases as cases  # noqa: E402
import fusion_peers as peers  # noqa: E402
import fusion_rules as rules  # noqa: E402
import fusion_table as table  # noqa: E402
import fusion_warps as warps  # noqa: E402
import machine  # noqa: E402
import numpy as np  # noqa: E402
import pairs  # noqa: E402
import runner  # noqa: E402
from measure import measure  # noqa: E402

MODELS = tuple(name.removeprefix("regnet-") for name in peers.MODELS)
TRUTH = "truth"  # the displacement that pairs are fused by where no model fuses
PICTURES = "pictures"  # the folder, below that of the results, of the cases that pictures show


def prepared(case: cases.Case, kind: str, out: Path, data: Path, fresh: bool) -> Path:
    """The folder of a case, with its images and its deformation in ``case.npz``; made when it is not there."""
    folder = out.resolve() / f"{case.name}-{kind}"
    if (folder / "case.npz").is_file() and not fresh:
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    images = cases.load(case, data)
    warp = warps.drawn(case.name, kind, images.fixed.shape)
    displacement, truth = warp.displacement(), warp.truth()
    places = warps.lattice(images.fixed.shape) + truth
    last = np.array(images.fixed.shape).reshape(2, 1, 1) - 1
    # Where the deformation has pushed something out of the picture nothing is left to be found.
    inside = cases.foreground(images.fixed) & ((places >= 0) & (places <= last)).all(axis=0)
    about = {**dataclasses.asdict(case), "kind": kind, "split": case.split}
    (folder / "case.json").write_text(json.dumps(about, indent=1), encoding="utf-8")
    arrays = {
        "fixed": images.fixed,
        "deformed": warps.resampled(images.moving, displacement),
        "colour": warps.resampled(images.colour, displacement),
        "truth": truth,
    }
    arrays = {name: array.astype(np.float32) for name, array in arrays.items()}
    partial = folder / "partial.npz"
    np.savez_compressed(partial, **arrays, inside=inside, both=inside & (images.moving > cases.DARK))
    os.replace(partial, folder / "case.npz")
    return folder


def available(methods: Iterable[str], models: Iterable[str]) -> list[str]:
    """Names of what can be run; a line on the screen for what cannot."""
    from regnet.models import MODEL_NAMES, get_info

    found = []
    for name in methods:
        package = peers.PACKAGES.get(name)
        if package and importlib.util.find_spec(package) is None:
            print(f"{name} is skipped: {package} is not installed (see Testing/benchmarks/requirements.txt).")
        else:
            found.append(name)
    for name in models:
        model = name.removesuffix(peers.NETWORK)
        if model not in MODEL_NAMES:
            print(f"regnet-{name} is skipped: regnet.models.MODEL_NAMES has no {model} ({', '.join(MODEL_NAMES)}).")
        elif 2 not in get_info(model).dimensions:
            print(f"regnet-{name} is skipped: {model} is not for images of two dimensions.")
        else:
            found.append(f"regnet-{name}")
    return found


def register(name: str, folders: list[Path], options: argparse.Namespace) -> int:
    """Measure one method on all cases, unless that is done; how many failed.

    Where its process dies, the case it was at counts as failed, and another process goes on with the next.
    """
    todo = [folder for folder in folders if options.fresh or runner.kept(folder / name) is None]
    for folder in todo:
        shutil.rmtree(folder / name, ignore_errors=True)
    while left := [folder for folder in todo if not (folder / name / "result.json").is_file()]:
        log = options.out.resolve() / f"{name}.log"
        command = [sys.executable, str(HERE / "fusion_peers.py"), name, options.device, *map(str, left)]
        environment = {**runner.environment(options.threads), "MPLBACKEND": "agg"}
        try:
            cost = measure(command, folder=HERE, log=log, environment=environment, timeout=options.timeout * len(left))
            death = f"{runner.last_line(log)} (exit code {cost.exit_code})"
        except TimeoutError:
            death = f"{len(left)} cases took more than {options.timeout:.0f} s each"
        lost = next((folder for folder in left if not (folder / name / "result.json").is_file()), None)
        if lost is not None:
            about = json.loads((lost / "case.json").read_text(encoding="utf-8"))
            today = {"date": peers.datetime.date.today().isoformat(), "versions": machine.versions()}
            (lost / name).mkdir(exist_ok=True)
            runner.save({**about, "method": name, "ok": False, **today, "error": death}, lost / name)
    results = [json.loads((folder / name / "result.json").read_text()) for folder in folders]
    for result in results:
        print(peers.told(result), flush=True)
    return sum(not result["ok"] for result in results)


def fuse(folder: Path, methods: list[str]) -> None:
    """Measure every way to fuse on one case, all on the moving image as one and the same method registered it.

    It is the first of the ``methods`` that fused this case itself; where none did, the true displacement stands in.
    """
    by = next((name for name in methods if (folder / name / "fused.npy").is_file()), TRUTH)
    with np.load(folder / "case.npz") as stored:
        fixed, deformed, field = (stored[key].astype(np.float64) for key in ("fixed", "deformed", "truth"))
    if by != TRUTH:
        field = np.load(folder / by / "field.npy").astype(np.float64)
    moved = np.clip(warps.resampled(deformed, field), 0, 1)
    fused = {name: rule(fixed, moved) for name, rule in rules.RULES.items() if rules.available(name)}
    if by != TRUTH:
        fused = {by: np.clip(np.load(folder / by / "fused.npy").astype(np.float64), 0, 1), **fused}
    about = json.loads((folder / "case.json").read_text(encoding="utf-8"))
    scores = {name: rules.measured(fixed, moved, image) for name, image in fused.items()}
    partial = folder / "fusion.json.partial"
    partial.write_text(json.dumps({**about, "by": by, "scores": scores}, indent=1), encoding="utf-8")
    os.replace(partial, folder / "fusion.json")


def draw(methods: list[str], options: argparse.Namespace, data: Path) -> None:
    """The sheet of pictures, and the registrations that it shows."""
    import fusion_picture

    out = options.out / PICTURES
    folders = [prepared(case, "larger", out, data, options.fresh) for case in cases.SHOWABLE]
    for name in methods:
        register(name, folders, options)
    fusion_picture.draw(cases.SHOWABLE, folders, methods, options.pictures)
    print(f"Written: {options.pictures}")


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help=f"folder of the images; or ${pairs.DATA_VARIABLE}")
    parser.add_argument("--split", choices=cases.SPLITS, default="test", help="settings are chosen on tuning cases")
    parser.add_argument("--slices", type=int, default=8, help="of each modality")
    parser.add_argument("--modalities", nargs="+", choices=tuple(cases.MODALITIES), default=list(cases.MODALITIES))
    parser.add_argument("--kinds", nargs="+", choices=tuple(warps.KINDS), default=list(warps.KINDS))
    parser.add_argument("--methods", nargs="*", choices=tuple(peers.PEERS), default=list(peers.PEERS), metavar="PEER")
    parser.add_argument("--models", nargs="*", default=list(MODELS), help=f"of RegNet; default: {' '.join(MODELS)}")
    parser.add_argument("--device", default="cpu", help="for RegNet's models; peers have no choice")
    parser.add_argument("--out", type=Path, default=runner.ROOT / ".bench" / "fusion", help="folder of single results")
    parser.add_argument("--results", type=Path, default=HERE / "FUSION.md", help="the report; its JSON goes beside it")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--timeout", type=float, default=600, help="seconds that one registration may take")
    parser.add_argument("--fresh", action="store_true", help="measure again what is measured already")
    parser.add_argument("--check", action="store_true", help="only look whether the data and the methods are there")
    parser.add_argument("--pictures", type=Path, metavar="PNG", help="draw a sheet of pictures, and nothing else")
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> int:
    options = parse(arguments)
    data = pairs.data_folder(options.data, "fusion_cases.py")
    methods = available(options.methods, options.models)
    chosen = cases.chosen(cases.found(data), options.split, options.slices)
    if options.check:
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if options.pictures is not None:
        draw(methods, options, data)
        return 0
    wanted = [case for case in chosen if case.modality in options.modalities]
    folders = [prepared(case, kind, options.out, data, options.fresh) for kind in options.kinds for case in wanted]
    failed = sum(register(name, folders, options) for name in methods)
    for folder in folders:
        fuse(folder, list(peers.MODELS))
    command = shlex.join(["python", "Testing/benchmarks/fusion.py", "--data", "FOLDER", *runner.public(arguments)])
    about = {"command": command, "threads": options.threads, "machine": machine.describe(), "split": options.split}
    table.write(options.out, options.results, about)
    print(f"Written: {options.results} and {options.results.with_suffix('.json')}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
