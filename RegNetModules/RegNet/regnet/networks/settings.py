"""What all networks' configurations share: plain values, stored beside the weights and read back from there."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, TypeVar

from ..errors import ModelError

Own = TypeVar("Own", bound="NetworkSettings")


class NetworkSettings:
    """Base of frozen dataclasses; ``network`` begins the sentence that refuses an unknown entry."""

    network: ClassVar[str]

    def __post_init__(self) -> None:
        """Lists, as they come from a file, become tuples."""
        for entry in dataclasses.fields(self):
            value = getattr(self, entry.name)
            if isinstance(value, list):
                object.__setattr__(self, entry.name, tuple(value))

    @classmethod
    def from_dict(cls: type[Own], values: dict[str, Any] | None) -> Own:
        """From plain values; what is missing has its default.

        Raises:
            ModelError: an entry that is not known, or a value that cannot be.
        """
        known = sorted(entry.name for entry in dataclasses.fields(cls))
        for name in values or {}:
            if name not in known:
                raise ModelError(f"{cls.network} has no setting {name!r}; there are {', '.join(known)}.")
        return cls(**(values or {}))

    def plain(self) -> dict[str, Any]:
        """Values from which :meth:`from_dict` makes the same again, also after they were JSON."""
        values = dataclasses.asdict(self)
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
