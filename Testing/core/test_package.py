"""What the package offers by name, however its modules are imported."""

from __future__ import annotations

import subprocess
import sys

import pytest

CALL = """
import sys
{before}
import regnet
assert ("torch" in sys.modules) is {heavy}
for attempt in range(2):
    for function, arguments in (
        (regnet.register, ("there-is-no-such-file.nii", "nor-this.nii")),
        (regnet.align, (None, None, "no-such-method")),
    ):
        try:
            function(*arguments)
        except regnet.RegNetError:
            continue  # called, and refused what it was given
        raise AssertionError(f"{{function}} took {{arguments}}")
from regnet import align, register
assert callable(register) and callable(align)
from regnet.register import tapered
from regnet.align import ALIGNMENTS
for name in [name for name in sys.modules if name.split(".")[0] == "regnet"]:
    del sys.modules[name]  # the next part imports the package anew
"""
IMPORTED_BEFORE = ["", "import regnet.register, regnet.align", "from regnet.register import tapered"]


def test_functions_stay_functions_whatever_is_imported_first():
    """In one process for all three, which loads torch once, and not before it is needed."""
    code = "".join(CALL.format(before=before, heavy=before != "") for before in IMPORTED_BEFORE)
    subprocess.run([sys.executable, "-c", code], check=True)


def test_all_names_are_there():
    import regnet

    for name in regnet.__all__:
        assert getattr(regnet, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'registre'"):
        _ = regnet.registre
