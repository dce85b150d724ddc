"""The fusion benchmark: that its program measures, goes on and says what fails, and that its tables and pictures hold
what was measured."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import SimpleITK as sitk
from affine_bench import BENCHMARKS, load
from scipy import ndimage

cases, warps, peers, table = load("fusion_cases"), load("fusion_warps"), load("fusion_peers"), load("fusion_table")
program, picture = load("fusion"), load("fusion_picture")
ABOUT = {"command": "run it", "threads": 1, "split": "test", "machine": {"memory": "1 GiB"}}
SHAPE = (72, 84)


def result(name: str, method: str, mean: float, cpu: float, ok: bool = True, **changes) -> dict:
    score = {"mean_px": mean, "p95_px": 2 * mean, "both_px": mean / 2, "before_px": 3.0, "folding_percent": 0.5}
    modality, number = name.split("-")
    values = {"name": name, "modality": modality, "number": int(number), "kind": "larger", "split": "test"}
    values |= {"method": method, "ok": ok, "date": "2025-01-01", "versions": {"numpy": "2"}, "error": "no | luck"}
    values |= {"score": score, "cost": {"wall_s": 2 * cpu, "cpu_s": cpu, "load": 0.1}}
    return {**values, **changes}


def rows_of(text: str, heading: str) -> dict[str, list[str]]:
    """The cells of the rows of the table below a heading, by their first."""
    below = [*text[text.index(f"### {heading}\n") :].splitlines(), ""]
    start = next(number for number, line in enumerate(below) if line.startswith("|"))
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in below[start + 2 : below.index("", start)]]
    assert {len(line) for line in lines} == {below[start].count("|") - 1}
    return {line[0]: line[1:] for line in lines}


def test_registration_tables_hold_the_figures_of_their_results():
    results = [
        result("ct-1", "ants", 1.0, 4.0),
        result("ct-4", "ants", 5.0, 6.0),
        result("pet-1", "ants", 2.0, 9.0),
        result("ct-1", "simpleitk", 2.0, 2.0),
        result("ct-4", "simpleitk", 9.0, 9.0, ok=False),
        result("pet-1", "simpleitk", 9.0, 9.0, ok=False),
        result("ct-1", "ants", 7.0, 1.0, kind="published"),
    ]
    text = table.text(results, [], ABOUT)
    ending = table.KIND_TITLES["larger"]
    both = rows_of(text, f"All modalities, {ending}")
    #                     mean    95 %    both    before  worse folding time     CPU     ratio
    assert both["ants"] == ["2.67", "5.33", "1.33", "3.00", "1", "0.50", "12.00", "6.00", "1.00"]
    # Compared over what both managed.
    assert both["simpleitk (1 of 3)"] == ["2.00", "4.00", "1.00", "3.00", "0", "0.50", "4.00", "2.00", "0.50"]
    assert rows_of(text, f"{cases.MODALITIES['ct']}, {ending}")["ants"][0] == "3.00"
    assert rows_of(text, f"{cases.MODALITIES['pet']}, {ending}")["simpleitk"][0] == "failed: no / luck"
    still = result("ct-1", "identity", 3.0 + 1e-7, 1.0)  # off by rounding
    assert rows_of(table.text([still], [], ABOUT), f"{cases.MODALITIES['ct']}, {ending}")["identity"][4] == "0"
    published = rows_of(text, f"All modalities, {table.KIND_TITLES['published']}")
    assert list(published) == ["ants"]
    assert published["ants"][0] == "7.00"
    assert "3 slices of 3 cases." in text
    assert "with 1 thread: " in text
    assert f"- **ants**: {peers.PEERS['ants']}\n" in text
    assert "**elastix**" not in text
    assert "## Fusion" not in text


def test_fusion_tables_compare_what_was_fused_alike():
    def fusion(name: str, by: str, **scores: float) -> dict:
        metrics = {rule: dict.fromkeys(table.METRICS, value) for rule, value in scores.items()}
        return {"name": name, "kind": "larger", "modality": "ct", "number": 4, "by": by, "scores": metrics}

    fusions = [
        fusion("ct-a", "regnet-bsafusion", **{"regnet-bsafusion": 0.5, "average": 0.25}),
        fusion("ct-b", "regnet-bsafusion", **{"regnet-bsafusion": 0.75, "average": 0.5, "wavelet": 0.125}),
        fusion("ct-c", "truth", average=1.0),
    ]
    text = table.text([result("ct-1", "ants", 1.0, 4.0)], fusions, ABOUT)
    ours = rows_of(text, f"{cases.MODALITIES['ct']}, registered by regnet-bsafusion")
    assert ours["regnet-bsafusion"] == ["0.625", "0.6", "0.625", "0.625", "0.625", "0.625"]
    assert ours["average"][0] == "0.375"
    assert ours["wavelet (1 of 2)"][0] == "0.125"
    assert rows_of(text, f"{cases.MODALITIES['ct']}, registered by the true displacement") == {
        "average": ["1.000", "1.0", "1.000", "1.000", "1.000", "1.000"]
    }
    assert "- **wavelet**: " in text
    assert "- **laplacian**: " not in text


def test_a_report_is_of_one_split_and_in_order(tmp_path):
    for number, entry in enumerate(
        [
            result("pet-1", "ants", 1.0, 1.0),
            result("ct-9", "ants", 1.0, 1.0, split="tuning"),
            result("ct-1", "regnet-masr", 1.0, 1.0),
            result("ct-1", "identity", 1.0, 1.0),
        ]
    ):
        (tmp_path / "out" / str(number) / "m").mkdir(parents=True)
        (tmp_path / "out" / str(number) / "m" / "result.json").write_text(json.dumps(entry))
    table.write(tmp_path / "out", tmp_path / "F.md", ABOUT)
    kept = json.loads((tmp_path / "F.json").read_text())["results"]
    assert [(r["name"], r["method"]) for r in kept] == [
        ("ct-1", "identity"),
        ("ct-1", "regnet-masr"),
        ("pet-1", "ants"),
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["F.json", "F.md", "out"]
    with pytest.raises(SystemExit, match="no results of tuning cases"):
        table.write(tmp_path, tmp_path / "F.md", {**ABOUT, "split": "tuning"})


def head(seed: int = 0) -> np.ndarray:
    """A textured bright body on black, 0 to 255."""
    rows, columns = np.indices(SHAPE)
    inside = ((rows - 36) / 26) ** 2 + ((columns - 42) / 30) ** 2 < 1
    texture = ndimage.gaussian_filter(np.random.RandomState(seed).normal(size=SHAPE), 2.5)
    return np.where(inside, 130 + 400 * texture, 0).clip(0, 255)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder with one test slice of each modality; the moving image is the fixed one in other values."""
    for modality in ("CT", "PET", "SPECT"):
        folder = tmp_path / "data" / "fusion2d" / f"{modality}-MRI"
        for name, image in (("MRI", head()), (modality, 255 * np.sqrt(head() / 255))):
            (folder / name).mkdir(parents=True)
            sitk.WriteImage(sitk.GetImageFromArray(image.astype(np.uint8)), str(folder / name / "28007.png"))
    return tmp_path / "data"


def bench(data: Path, *arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, str(BENCHMARKS / "fusion.py"), "--data", str(data), "--out", str(data.parent / "out")]
    command += ["--results", str(data.parent / "F.md"), "--slices", "1", "--threads", "1", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=250)


def test_run_measures_goes_on_and_survives_failures(data):
    wanted = ["--modalities", "ct", "--kinds", "published"]
    first = bench(data, *wanted, "--methods", "identity", "simpleitk", "--models", "nonsense")
    assert first.returncode == 0, first.stderr
    assert "regnet-nonsense is skipped: regnet.models.MODEL_NAMES has no nonsense" in first.stdout
    folder = data.parent / "out" / "ct-28007-published"
    identity, peer = (json.loads((folder / name / "result.json").read_text()) for name in ("identity", "simpleitk"))
    truth = warps.drawn("ct-28007", "published", SHAPE).truth()
    inside = cases.foreground(cases.unit(head().astype(np.uint8)))
    assert identity["score"]["mean_px"] == pytest.approx(identity["score"]["before_px"], rel=1e-6)
    assert identity["score"]["mean_px"] == pytest.approx(np.linalg.norm(truth, axis=0)[inside].mean(), rel=0.02)
    # Both images show the same: a peer that was given, or asked, something else would not find it.
    assert peer["score"]["mean_px"] < 0.7 * identity["score"]["mean_px"]
    assert peer["cost"]["cpu_s"] > 0
    fusion = json.loads((folder / "fusion.json").read_text())
    assert fusion["by"] == "truth"
    assert {"average", "maximum", "laplacian"} <= fusion["scores"].keys() <= set(program.rules.RULES)
    text = (data.parent / "F.md").read_text()
    assert f"| identity | {identity['score']['mean_px']:.2f} | " in text
    assert "--slices 1 --threads 1 --modalities ct" in text
    assert str(data.parent) not in text + (data.parent / "F.json").read_text()

    stamp = (folder / "simpleitk" / "result.json").stat().st_mtime_ns
    second = bench(data, *wanted, "--methods", "simpleitk", "--models", "masr", "--device", "nowhere")
    assert second.returncode == 1
    assert (folder / "simpleitk" / "result.json").stat().st_mtime_ns == stamp
    assert "regnet-masr              failed: " in second.stdout
    assert "| regnet-masr | failed: " in (data.parent / "F.md").read_text()


def test_it_says_in_one_sentence_what_is_missing(data, monkeypatch, capsys):
    found = program.importlib.util.find_spec
    monkeypatch.setattr(program.importlib.util, "find_spec", lambda name: None if name == "ants" else found(name))
    assert program.available(["identity", "ants"], []) == ["identity"]
    assert capsys.readouterr().out.startswith("ants is skipped: ants is not installed (see ")
    (data / "fusion2d" / "PET-MRI" / "MRI" / "28007.png").unlink()
    done = bench(data)
    assert done.returncode == 1
    assert "28007.png has no partner" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (data.parent / "F.md").exists()


def test_a_process_that_dies_costs_one_case(tmp_path, monkeypatch):
    folders = []
    for name in ("ct-1", "ct-2", "ct-3"):
        folders.append(tmp_path / name)
        folders[-1].mkdir()
        about = {key: value for key, value in result(name, "x", 1.0, 1.0).items() if key not in ("method", "ok")}
        (folders[-1] / "case.json").write_text(json.dumps(about))
    runs = []

    def dies_at_the_second(command, *, log, **_):
        left = [Path(name) for name in command[4:]]
        runs.append([folder.name for folder in left])
        log.write_text("Segmentation fault\n")
        for folder in left:
            if folder.name == "ct-2":
                return SimpleNamespace(exit_code=139)
            (folder / "ants").mkdir()
            (folder / "ants" / "result.json").write_text(json.dumps(result(folder.name, "ants", 1.0, 1.0)))
        return SimpleNamespace(exit_code=0)

    monkeypatch.setattr(program, "measure", dies_at_the_second)
    options = SimpleNamespace(out=tmp_path, threads=1, timeout=9.0, device="cpu", fresh=False)
    assert program.register("ants", folders, options) == 1
    assert runs == [["ct-1", "ct-2", "ct-3"], ["ct-3"]]
    lost = json.loads((tmp_path / "ct-2" / "ants" / "result.json").read_text())
    assert (lost["ok"], lost["error"]) == (False, "Segmentation fault (exit code 139)")
    runs.clear()
    assert program.register("ants", folders, options) == 1
    assert runs == [["ct-2"]]  # what failed is tried again


def test_regnet_gets_the_weights_of_the_modality_and_gives_its_displacement(monkeypatch):
    import regnet
    import regnet.fusing
    import regnet.zoo

    asked = {}

    def registered(fixed, moving, **options):
        asked.update(options, means=[float(image.data.mean()) for image in (fixed, moving)])
        return SimpleNamespace(transform=lambda points: points + [2.0, -3.0, 0.0])

    def fused(fixed, moving, transform, **options):
        asked.update(fused_with=options["weights"], through=transform(np.zeros(3)).tolist())
        return SimpleNamespace(image=SimpleNamespace(data=fixed.data))

    monkeypatch.setattr(regnet, "register", registered)
    monkeypatch.setattr(regnet.fusing, "fuse", fused)
    monkeypatch.setattr(regnet.zoo, "find_weights", lambda model, variant: None if variant == "spect-mri" else variant)
    fixed, moving = np.full(SHAPE, 0.25), np.full(SHAPE, 0.5)
    method = peers.method("regnet-bsafusion-network")
    found = method.register(method.images(fixed, moving, "pet"))
    assert asked["parameters"] == {"weights": "pet-mri", "fusion": "off"}
    assert (asked["model"], asked["refine"], asked["means"]) == ("bsafusion", "off", [0.25, 0.5])
    field = method.field(found, SHAPE)
    np.testing.assert_allclose(field[0], -3)  # rows, which is y
    np.testing.assert_allclose(field[1], 2)
    np.testing.assert_allclose(method.fused(found), fixed)
    assert (asked["fused_with"], asked["through"]) == ("pet-mri", [2.0, -3.0, 0.0])
    with pytest.raises(RuntimeError, match="spect-mri of bsafusion are not installed"):
        method.images(fixed, moving, "spect")
    method = peers.method("regnet-masr")
    assert method.fused(method.register(method.images(fixed, moving, "spect"))) is None
    assert (asked["model"], asked["refine"], asked["parameters"]) == ("masr", "auto", {})


def stored(folder: Path) -> Path:
    """A case whose moving image lies 4 columns too far to the right,\nregistered by one method and fused to white."""
    (folder / "right").mkdir(parents=True)
    fixed, colour, truth = np.zeros((20, 30)), np.zeros((20, 30, 3)), np.zeros((2, 20, 30))
    fixed[5:15, 10:20] = 1.0
    colour[5:15, 14:24] = [1.0, 0.0, 0.0]
    truth[1] = 4.0
    np.savez(folder / "case.npz", fixed=fixed, colour=colour, deformed=cases.luminance(colour), truth=truth)
    (folder / "case.json").write_text(json.dumps({"name": "a", "modality": "ct"}))
    np.save(folder / "right" / "field.npy", truth)
    np.save(folder / "right" / "fused.npy", np.ones((20, 30)))
    return folder


def test_every_rule_fuses_what_the_model_registered(tmp_path):
    folder = stored(tmp_path / "a")
    np.savez(folder / "case.npz", **{**np.load(folder / "case.npz"), "truth": np.zeros((2, 20, 30))})
    seen = {}

    def measured(fixed, moved, fused):
        seen[len(seen)] = fixed, moved, fused
        return {"qabf": float(fused.mean())}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(program.rules, "measured", measured)
        program.fuse(folder, ["missing", "right"])
    kept = json.loads((folder / "fusion.json").read_text())
    assert kept["by"] == "right"
    assert kept["scores"]["right"]["qabf"] == 1
    assert list(kept["scores"])[:3] == ["right", "average", "maximum"]
    for fixed, moved, _ in seen.values():  # by the method's displacement, not by the one called true
        np.testing.assert_allclose(moved, 0.299 * fixed)


def test_the_sheet_shows_both_images_registered_and_fused(tmp_path):
    folder = stored(tmp_path / "a")
    case = cases.SHOWABLE[0]
    first, second = picture.panels(case, folder, ["identity", "right", "failed"])
    assert list(first) == ["fixed", "moving,\ndeformed", "right,\nregistered"]
    np.testing.assert_allclose(first["right,\nregistered"][5:15, 10:20], [[[1, 0, 0]] * 10] * 10)
    assert first["right,\nregistered"][:, 20:].max() == 0
    assert list(second)[:3] == ["average,\nnot registered", "right,\nfused", "average,\nfused"]
    np.testing.assert_allclose(second["right,\nfused"][0], 1)
    # Its own colour, and a luminance of the mean of 1 and 0.299.
    np.testing.assert_allclose(second["average,\nfused"][10, 15], np.clip([0.6495 + 0.701, 0.3505, 0.3505], 0, 1))
    target = tmp_path / "sheet.png"
    picture.draw([case, case], [folder, folder], ["right"], target)
    size = sitk.GetArrayFromImage(sitk.ReadImage(str(target))).shape
    assert size[0] / size[1] == pytest.approx(4 * 1.3 / len(second), rel=0.01)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "sheet.png"]


def test_hue_is_kept_at_another_brightness():
    colour = np.array([[[0.5, 0.2, 0.1]]])
    shown = picture.tinted(np.array([[0.4]]), colour)
    assert cases.luminance(shown)[0, 0] == pytest.approx(0.4)
    np.testing.assert_allclose(np.diff(shown), np.diff(colour))
