"""An edit: one change of a network as data, which can be printed, compared, saved as JSON and applied."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from convsmith.errors import UsageError

Setting = int | float | str | tuple[int, ...]


@dataclass(frozen=True)
class Edit:
    """A kind of ``redesign.KINDS``, the node it changes (empty: the whole network), and what the kind must know, such as ranks."""

    kind: str
    node: str = ""
    settings: Mapping[str, Setting] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "settings", MappingProxyType(dict(self.settings)))

    def __hash__(self) -> int:
        return hash((self.kind, self.node, tuple(sorted(self.settings.items()))))

    def __reduce__(self) -> tuple[type[Edit], tuple[Any, ...]]:
        # a mapping proxy can be neither pickled nor deep-copied
        return Edit, (self.kind, self.node, dict(self.settings))

    def __str__(self) -> str:
        shown = ", ".join(f"{key} {short(value)}" for key, value in self.settings.items())
        return " ".join(part for part in (self.kind, self.node, f"({shown})" if shown else "") if part)

    def whole(self, name: str, least: int = 1) -> int:
        """Return a setting that must be a whole number.

        Raises: ``UsageError`` when it is missing, of another type or below ``least``.
        """
        value = self.settings.get(name)
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise UsageError(f"edit {self.kind!r} of node {self.node!r} needs {name}, a whole number of at least {least}; got {value!r}")
        return value

    def to_dict(self) -> dict[str, Any]:
        """Return the edit as plain JSON data."""
        settings = {key: list(value) if isinstance(value, tuple) else value for key, value in self.settings.items()}
        return {"kind": self.kind, "node": self.node, "settings": settings}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Edit:
        """Return the edit that `to_dict` wrote.

        Raises: ``UsageError`` for anything else.
        """
        try:
            kind, node, settings = fields["kind"], fields.get("node", ""), fields.get("settings", {})
            if not isinstance(kind, str) or not isinstance(node, str) or not all(map(is_setting, settings.values())):
                raise TypeError("a field has another type")
        except (KeyError, TypeError, AttributeError) as error:
            raise UsageError(f"{fields!r} is no edit ({error}); it needs kind, node and settings of numbers, words or lists") from None
        return cls(kind, node, {key: tuple(value) if isinstance(value, list) else value for key, value in settings.items()})


def is_setting(value: object) -> bool:
    """Tell whether JSON data can be a setting of an edit."""
    return isinstance(value, (int, float, str)) or (isinstance(value, (list, tuple)) and all(isinstance(n, int) for n in value))


def short(value: Setting) -> str:
    """Return a setting as a few characters; of a long list only how many numbers it has."""
    if isinstance(value, tuple):
        return "x".join(map(str, value)) if len(value) <= 4 else f"{len(value)} of them"
    return f"{value:g}" if isinstance(value, float) else str(value)
