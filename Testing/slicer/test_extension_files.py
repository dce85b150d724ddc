"""The files around the modules: what a Slicer build and the Extensions Index look at."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODULES = sorted(folder for folder in (ROOT / "RegNetModules").iterdir() if (folder / f"{folder.name}.py").is_file())
SOURCES = sorted(path for folder in MODULES for path in folder.rglob("*.py") if "__pycache__" not in path.parts)
ICONS = [ROOT / "Resources/Icons/RegNet.png", *(folder / f"Resources/Icons/{folder.name}.png" for folder in MODULES)]
SHIPPED_WITH_SLICER = {"slicer", "vtk", "qt", "ctk", "numpy", "scipy", "SimpleITK", "SampleData", "PyTorchUtils"}


def listed(folder: Path, variable: str) -> list[str]:
    """The entries of ``set(variable ...)`` in a module's CMakeLists.txt."""
    text = (folder / "CMakeLists.txt").read_text(encoding="utf-8")
    return re.search(rf"set\({variable}\s(.*?)\)", text, re.DOTALL).group(1).split()


def tree(folder: Path) -> set[str]:
    """Every file of a module that has to be shipped, relative to its folder."""
    left_out = ("__pycache__", ".egg-info", ".DS_Store", "CMakeLists.txt")
    return {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and not any(part in path.relative_to(folder).as_posix() for part in left_out)
    }


@pytest.mark.parametrize("folder", MODULES, ids=lambda folder: folder.name)
def test_every_file_is_listed_once(folder):
    """Slicer installs what is listed and nothing else."""
    scripts, resources = listed(folder, "MODULE_PYTHON_SCRIPTS"), listed(folder, "MODULE_PYTHON_RESOURCES")
    assert all(name.endswith(".py") for name in scripts) and not any(name.endswith(".py") for name in resources)
    together = scripts + resources
    assert sorted(together) == sorted(set(together))
    assert sorted(tree(folder) - set(together)) == [], f"to be added to {folder.name}/CMakeLists.txt"
    assert sorted(set(together) - tree(folder)) == [], f"to be taken out of {folder.name}/CMakeLists.txt"


def test_every_package_folder_has_an_init(scene):
    packages = {path.parent for path in SOURCES if path.parent.name not in {folder.name for folder in MODULES}}
    assert packages and all((package / "__init__.py").is_file() for package in packages)


@pytest.mark.parametrize("folder", MODULES, ids=lambda folder: folder.name)
def test_module_is_built_and_short(folder):
    text = (folder / "CMakeLists.txt").read_text(encoding="utf-8")
    assert f"set(MODULE_NAME {folder.name})" in text
    assert "slicerMacroBuildScriptedModule(" in text and "WITH_GENERIC_TESTS" in text
    assert "slicer_add_python_unittest(SCRIPT ${MODULE_NAME}.py)" in text
    assert f"add_subdirectory(RegNetModules/{folder.name})" in (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
    assert len((folder / f"{folder.name}.py").read_text(encoding="utf-8").splitlines()) < 100


@pytest.mark.parametrize("folder", MODULES, ids=lambda folder: folder.name)
def test_only_modules_lie_beside_a_module(folder):
    """Slicer takes every .py file beside a module for a module."""
    assert [path.name for path in folder.glob("*.py")] == [f"{folder.name}.py"]


def test_extension_metadata():
    text = (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
    assert re.search(r"^project\(RegNet\)$", text, re.MULTILINE)
    values = dict(re.findall(r'^set\((EXTENSION_\w+) "([^"]+)"\)$', text, re.MULTILINE))
    wanted = ("HOMEPAGE", "CATEGORY", "CONTRIBUTORS", "DESCRIPTION", "ICONURL", "SCREENSHOTURLS", "DEPENDS")
    assert sorted(values) == sorted(f"EXTENSION_{name}" for name in wanted)
    assert values["EXTENSION_CATEGORY"] == "Registration" and values["EXTENSION_DEPENDS"] == "PyTorch"
    for url in [values["EXTENSION_ICONURL"], *values["EXTENSION_SCREENSHOTURLS"].split()]:
        assert (ROOT / url.split("/main/")[1]).is_file(), url
    steps = ["find_package(Slicer REQUIRED)", "include(${Slicer_USE_FILE})", "add_subdirectory(",
             "include(${Slicer_EXTENSION_GENERATE_CONFIG})", "include(${Slicer_EXTENSION_CPACK})"]  # fmt: skip
    places = [text.index(step) for step in steps]
    assert places == sorted(places)


def test_catalogue_entry():
    entry = json.loads((ROOT / "Resources" / "RegNet.json").read_text(encoding="utf-8"))
    assert entry["category"] == "Registration" and entry["build_dependencies"] == ["PyTorch"]
    assert entry["scm_url"].rsplit("/", 1)[1] == "SlicerRegNet.git" and entry["tier"] in (1, 3, 5)
    assert "slicer-extension-catalog-entry-schema" in entry["$schema"]


@pytest.mark.parametrize("path", ICONS, ids=lambda path: path.parts[-4] + "/" + path.name)
def test_icons_are_128_pixels(path):
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    assert (int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")) == (128, 128)


def imports_at_file_scope(path: Path) -> set[str]:
    """Top-level names that importing the file imports."""
    found, waiting = set(), list(ast.parse(path.read_text(encoding="utf-8")).body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            found.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add(node.module.split(".")[0])
        elif (
            isinstance(node, ast.Try | ast.With)
            or isinstance(node, ast.If)
            and "TYPE_CHECKING" not in ast.dump(node.test)
        ):
            waiting.extend(node.body)
    return found


@pytest.mark.parametrize("path", [p for p in SOURCES if "regnet" not in p.parts], ids=lambda path: path.stem)
def test_slicer_side_imports_only_what_slicer_brings(path):
    """Third-party packages at file scope would make a module fail to load before they are installed."""
    allowed = SHIPPED_WITH_SLICER | set(sys.stdlib_module_names) | {"regnet", "RegNetLib"}
    assert imports_at_file_scope(path) <= allowed


@pytest.mark.parametrize("path", [p for p in SOURCES if "regnet" in p.parts], ids=lambda path: path.stem)
def test_core_knows_nothing_of_slicer(path):
    assert not imports_at_file_scope(path) & {"slicer", "qt", "ctk", "vtk", "RegNetLib"}


def test_what_the_panels_read_of_the_core_needs_no_packages():
    """``regnet.models`` in an interpreter that has neither torch nor any of the packages installed later."""
    absent = ["torch", "pydantic", "safetensors", "psutil", "typer", "rich", "matplotlib"]
    script = (
        f"import sys; sys.modules.update(dict.fromkeys({absent!r})); sys.path.insert(0, {str(MODULES[0])!r});"
        "from regnet.models import MODEL_NAMES, get_info, get_parameters; import regnet.align;"
        "print([(get_info(name).title, len(get_parameters(name).describe())) for name in MODEL_NAMES])"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stderr
    assert "AVSM" in result.stdout


@pytest.mark.parametrize("path", sorted((ROOT / "RegNetModules").rglob("*.ui")), ids=lambda path: path.name)
def test_ui_files(path):
    """Names are unique, and everything that a user can touch has a tooltip."""
    widgets = list(ElementTree.parse(path).getroot().iter("widget"))
    names = [widget.get("name") for widget in widgets]
    assert len(names) == len(set(names))
    silent = ("QLabel", "QWidget", "qMRMLWidget", "QProgressBar")
    missing = [
        widget.get("name") for widget in widgets
        if widget.get("class") not in silent and not any(p.get("name") == "toolTip" for p in widget.findall("property"))
    ]  # fmt: skip
    assert missing == []
    assert not any(p.get("name") == "styleSheet" for widget in widgets for p in widget.findall("property"))


def test_ui_and_parameter_node_name_the_same_parameters(scene):
    from RegNetLib.parameter_node import PanelParameterNode

    folder = ROOT / "RegNetModules/RegNet/Resources/UI"
    names = ("RegNetPanel", "RegNetCorrect", "RegNetRegion")
    roots = [ElementTree.parse(folder / f"{name}.ui").getroot() for name in names]
    properties = [p for root in roots for p in root.iter("property")]
    named = [p.find("string").text for p in properties if p.get("name") == "SlicerParameterName"]
    without_a_widget = {"model", "modelParameters", "syntheticVolume", "fusedVolume"}
    without_a_widget |= {"correctFixedPoints", "correctMovingPoints", "correctSegment"}
    without_a_widget |= {"regionSegment", "fixedMaskSegment", "movingMaskSegment"}
    assert sorted(named) == sorted(set(PanelParameterNode.allParameters) - without_a_widget)


@pytest.mark.parametrize("path", [p for p in SOURCES if "regnet" not in p.parts], ids=lambda path: path.stem)
def test_what_the_user_reads_can_be_translated(path):
    """Texts given to widgets go through the translation function, and are formatted after it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "_":
            assert not any(isinstance(argument, ast.JoinedStr) for argument in node.args), ast.unparse(node)
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            targets = [target.attr for target in node.targets if isinstance(target, ast.Attribute)]
            assert not set(targets) & {"text", "toolTip", "title", "helpText"} or not node.value.value


def test_the_worker_needs_only_what_is_installed_for_it():
    """Slicer brings numpy, scipy and SimpleITK; requirements.txt names the rest beside torch."""
    needed = (ROOT / "RegNetModules/RegNet/Resources/requirements.txt").read_text(encoding="utf-8").splitlines()
    names = [re.match(r"[\w-]+", line).group() for line in needed if line and not line.startswith("#")]
    script = (
        f"import sys; sys.modules.update(dict.fromkeys(['typer', 'rich', 'matplotlib'])); "
        f"sys.path.insert(0, {str(MODULES[0])!r});"
        "import regnet.worker, regnet.worker_files, regnet.register, regnet.zoo;"
        "print(*sorted({name.split('.')[0] for name, module in sys.modules.items() if module is not None}))"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stderr
    assert names == ["safetensors", "pydantic", "psutil"]
    assert "pydantic" in result.stdout.split()
