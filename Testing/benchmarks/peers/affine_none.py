"""No registration: how the images lie by their headers. Where the scores start from."""

from __future__ import annotations

from .linear import Clock, main


def find(fixed, moving, out, options):
    return [[float(row == column) for column in range(4)] for row in range(4)], Clock()


if __name__ == "__main__":
    main(find)
