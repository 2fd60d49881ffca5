"""Flags from a verb's schema: every plain setting is one, nested ones are reached by ``--set``."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Group, Parameter
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from convsmith.jobs import Verb

COMMON = Group("Every verb", sort_key=9)
#: Parameters of the commands that are no verbs.
Json = Annotated[bool, Parameter(name="--json", negative=(), help="Print one JSON document, errors too", show_default=False)]
Root = Annotated[Path | None, Parameter(name="--root", help="Folder of runs; by default ./runs, or what CONVSMITH_RUNS names")]
_PLAIN = (bool, int, float, str, Path)


def parameters(schema: type[BaseModel]) -> list[inspect.Parameter]:
    """Return the parameters of a command: positional settings first, the others as flags. None means not given."""
    found = [_parameter(name, field) for name, field in schema.model_fields.items() if not _is_nested(field)]
    return sorted(found, key=lambda parameter: parameter.kind)


def common(verb: Verb, quotable: bool) -> list[inspect.Parameter]:
    """Return the parameters that do not belong to the schema."""
    made: list[tuple[str, str, Any, str, str]] = [
        ("config", "config", Path | None, "FILE", "YAML or JSON file of settings"),
        ("sets", "set", list[str] | None, "KEY=VALUE", "Any setting, nested ones too: --set training.momentum=0.8"),
    ]
    if verb.name in ("train", "forge"):
        made.append(("preset", "preset", str | None, "NAME", "Named starting point: quick, repeatable, balanced"))
    if verb.writes == "new run":
        made.append(("folder", "out", Path | None, "FOLDER", "Run folder to make; by default a dated one in ./runs or CONVSMITH_RUNS"))
    if quotable:
        made.append(("dry_run", "dry-run", bool, "", "Show the plan and what it would take, and do nothing"))
    made += [
        ("print_config", "print-config", bool, "", "Print the settings as YAML, and do nothing"),
        ("json", "json", bool, "", "Print one JSON document, errors too"),
    ]
    return [_common(*item) for item in made]


def _common(key: str, name: str, kind: Any, metavar: str, description: str) -> inspect.Parameter:
    flag = Parameter(name=f"--{name}", help=description, metavar=metavar or None, group=COMMON, negative=(), show_default=False)
    default = False if kind is bool else None
    return inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, flag])


def _parameter(name: str, field: FieldInfo) -> inspect.Parameter:
    extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
    kind = str if "metavar" in extra else _flag_type(field.annotation)
    described: dict[str, Any] = {"help": field.description, "show_default": _shown(field), "negative_iterable": ()}
    if extra.get("positional"):
        if typing.get_origin(field.annotation) is tuple:
            annotation = Annotated[str, Parameter(**described)]
            return inspect.Parameter(name, inspect.Parameter.VAR_POSITIONAL, annotation=annotation)
        return inspect.Parameter(
            name, inspect.Parameter.POSITIONAL_ONLY, default=None, annotation=Annotated[str | None, Parameter(**described)]
        )
    flag = Parameter(**described, metavar=typing.cast(str | None, extra.get("metavar")))
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, flag])


def _flag_type(annotation: Any) -> Any:
    """Return the type the command line converts to; text for whatever only the schema understands."""
    members = [item for item in typing.get_args(annotation) if item is not type(None)]
    if typing.get_origin(annotation) in (typing.Union, types.UnionType) and len(members) == 1:
        annotation = members[0]
    if annotation in _PLAIN or typing.get_origin(annotation) is Literal:
        return annotation
    if typing.get_origin(annotation) in (tuple, list):
        return list.__class_getitem__(_flag_type(typing.get_args(annotation)[0]))
    return str


def _is_nested(field: FieldInfo) -> bool:
    return isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)


def _shown(field: FieldInfo) -> Any:
    default = field.default
    if default is PydanticUndefined or default is None or default in ((), "", False):
        return False
    extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
    text = str(extra.get("shown") or (", ".join(map(str, default)) if isinstance(default, tuple) else default))
    return lambda _: text


def given(values: Mapping[str, Any], schema: type[BaseModel]) -> dict[str, Any]:
    """Return the settings among the parsed values that were given."""
    return {name: value for name, value in values.items() if name in schema.model_fields and value is not None and value != ()}
