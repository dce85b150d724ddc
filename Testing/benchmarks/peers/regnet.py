"""RegNet as its users run it: the command line, without the page of pictures, which no peer makes either.

With ``--only-align``, its initial alignment alone.
"""

from __future__ import annotations

import os
import sys

from .common import main, threads


def options(parser):
    parser.add_argument("--only-align", metavar="METHOD", help="stop after this alignment, for example affine")
    parser.add_argument("--models", help="folder of other weights than those that ship")
    parser.add_argument("--arguments", default="", help="more arguments for 'regnet register', in one string")


def register(fixed, moving, out, given):
    if given.only_align:
        import torch
        from regnet.align import align
        from regnet.image import Image

        torch.set_num_threads(threads())
        transform = align(Image.read(fixed), Image.read(moving), given.only_align)
        transform.write(out / "transform.h5")
        return
    command = [sys.executable, "-m", "regnet.cli", "register", str(fixed), str(moving), "-o", str(out), "--no-report"]
    if given.models:
        os.environ["REGNET_MODELS"] = given.models
    # This process becomes the command line, so that what is measured is the command line and nothing else.
    os.execv(sys.executable, [*command, *given.arguments.split()])


def dense(fixed, moving, out, given):
    import SimpleITK as sitk

    return sitk.ReadTransform(str(out / "transform.h5"))


if __name__ == "__main__":
    main(register, dense, options)
