"""Forms from the schemas of the verbs: the fields of a page, and settings back from what was typed into them."""

from __future__ import annotations

import itertools
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from convsmith.errors import UsageError
from convsmith.sweeps.space import nested

Kind = Literal["text", "number", "choice", "flag", "path", "list", "group"]
MOST_COMBINATIONS = 100
#: Settings that name files although their type is text.
PATHS = ("data", "images", "weights", "plan", "exclude", "leaked", "network")


@dataclass(frozen=True)
class Input:
    """One field of a form. ``name`` has dots where settings are nested; ``shown`` is the default and ``range`` the bounds as text."""

    name: str
    label: str
    kind: Kind
    help: str
    shown: str = ""
    required: bool = False
    choices: tuple[str, ...] = ()
    least: float | None = None
    most: float | None = None
    whole: bool = False
    range: str = ""
    fields: tuple[Input, ...] = field(default=())


def inputs(schema: type[BaseModel], prefix: str = "") -> tuple[Input, ...]:
    """Return the fields of a schema: what must be given first, nested settings as groups at the end."""
    made = [_input(f"{prefix}{name}", name, info) for name, info in schema.model_fields.items()]
    return tuple(sorted(made, key=lambda item: (item.kind == "group", not item.required)))


def _input(name: str, label: str, info: FieldInfo) -> Input:
    annotation, optional = _bare(info.annotation)
    text = label.replace("_", " ")
    about = info.description or ""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return Input(name, text, "group", about, fields=inputs(annotation, f"{name}."))
    least, most = _bounds(info)
    kind, choices, whole = _kind(annotation, label)
    extra = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
    shown = str(extra.get("shown") or "") or _shown(info.default)
    return Input(name, text, kind, about, shown, info.is_required() and not optional, choices, least, most, whole, _range(info))


def _bare(annotation: Any) -> tuple[Any, bool]:
    members = typing.get_args(annotation)
    if typing.get_origin(annotation) in (typing.Union, types.UnionType) and type(None) in members:
        rest = [item for item in members if item is not type(None)]
        return (rest[0] if len(rest) == 1 else typing.Union[tuple(rest)]), True  # noqa: UP007
    return annotation, False


def _kind(annotation: Any, label: str) -> tuple[Kind, tuple[str, ...], bool]:
    origin, members = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation is bool:
        return "flag", (), False
    if origin is Literal:
        return "choice", tuple(map(str, members)), False
    if annotation in (int, float):
        return "number", (), annotation is int
    if annotation is Path or label in PATHS:
        return "path", (), False
    if origin in (tuple, list):
        return "list", (), False
    choices = tuple(str(item) for member in members if typing.get_origin(member) is Literal for item in typing.get_args(member))
    if bool in members and choices:
        return "choice", ("true", "false", *choices), False
    return "text", choices, False


def _bounds(info: FieldInfo) -> tuple[float | None, float | None]:
    least = most = None
    for rule in info.metadata:
        least = getattr(rule, "ge", getattr(rule, "gt", least))
        most = getattr(rule, "le", getattr(rule, "lt", most))
    return (None if least is None else float(least)), (None if most is None else float(most))


def _range(info: FieldInfo) -> str:
    words = (("gt", "above"), ("ge", "from"), ("lt", "below"), ("le", "to"))
    return " ".join(f"{word} {getattr(rule, name):g}" for rule in info.metadata for name, word in words if hasattr(rule, name))


def _shown(default: Any) -> str:
    if default is PydanticUndefined or default is None or default == ():
        return ""
    if isinstance(default, bool):
        return "yes" if default else "no"
    if isinstance(default, tuple | list):
        return ", ".join(map(str, default))
    return str(default)


def settings(schema: type[BaseModel], typed: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the settings that a form asks for; numbers given as a list, such as ``0.1, 0.01``, make one for each combination.

    ``typed``: field name (dots where nested) -> text; an empty text is not given. Values that are no text are taken as they are.
    Raises: UsageError for a field that is not in the form, and for more than 100 combinations.
    """
    known = {item.name: item for item in _leaves(inputs(schema))}
    unknown = [name for name in typed if name not in known]
    if unknown:
        raise UsageError(f"there is no setting {unknown[0]!r}; there are {', '.join(sorted(known))}")
    choices: list[list[tuple[str, Any]]] = []
    for name, text in typed.items():
        if isinstance(text, str) and not text.strip():
            continue
        choices.append([(name, value) for value in _values(known[name], text)])
    count = 1
    for options in choices:
        count *= len(options)
    if count > MOST_COMBINATIONS:
        raise UsageError(f"these lists make {count:,} combinations; at most {MOST_COMBINATIONS} are started at once, a sweep takes more")
    return [nested(dict(combination)) for combination in itertools.product(*choices)]


def _leaves(fields: tuple[Input, ...]) -> list[Input]:
    return [leaf for item in fields for leaf in (_leaves(item.fields) if item.kind == "group" else [item])]


def _values(item: Input, text: Any) -> list[Any]:
    if not isinstance(text, str):
        return [text]
    text = text.strip()
    if item.kind == "list":
        return [[_read(part) for part in _parts(text) if part.strip()]]
    if item.kind in ("number", "text") and "," in text and _all_numbers(text):
        return [_read(part) for part in text.split(",") if part.strip()]
    if item.kind == "flag":
        return [text.lower() in ("true", "yes", "on", "1")]
    return [text if item.kind in ("path", "text") and not _all_numbers(text) else _read(text)]


def _parts(text: str) -> list[str]:
    """Split a list at semicolons where there are some, else at commas; a setting with its values, ``a=1,2``, is one part."""
    return text.split(";") if ";" in text else [text] if "=" in text else text.split(",")


def _all_numbers(text: str) -> bool:
    try:
        return bool([float(part) for part in text.split(",") if part.strip()])
    except ValueError:
        return False


def _read(text: str) -> Any:
    """Read a number, true, false or text; scientific notation too, which YAML takes for text without a dot."""
    text = text.strip()
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        pass
    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError:
        return text
    return found if isinstance(found, bool | dict | list) else text


def typed(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Return settings as the texts of a form: what a run was started with, to start another like it."""
    found: dict[str, str] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            found |= typed(value, f"{prefix}{name}.")
        elif isinstance(value, bool):
            found[prefix + name] = "true" if value else "false"
        elif isinstance(value, list | tuple):
            items = [str(item) for item in value]
            found[prefix + name] = ("; " if any("," in item or "=" in item for item in items) else ", ").join(items)
        elif value is not None:
            found[prefix + name] = str(value)
    return found
