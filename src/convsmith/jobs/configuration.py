"""One configuration from many places: flags before ``--set`` before the file before the preset before the defaults."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from convsmith.errors import UsageError, near

C = TypeVar("C", bound=BaseModel)


def compose(
    schema: type[C],
    *,
    preset: Mapping[str, Any] | None = None,
    file: str | Path | None = None,
    sets: Iterable[str] = (),
    flags: Mapping[str, Any] | None = None,
) -> C:
    """Merge the sources, the later arguments before the earlier ones, and validate the whole.

    ``sets``: ``a.b=value`` texts, the value read as YAML. Nested settings are merged key by key.
    Raises: UsageError that names the setting, what it allows and the nearest name.
    """
    merged: dict[str, Any] = {}
    for layer in (preset or {}, read_file(file) if file is not None else {}, *map(parse_set, sets), flags or {}):
        merged = merge(merged, layer)
    return validate(schema, merged)


def validate(schema: type[C], values: Mapping[str, Any]) -> C:
    """Return the configuration; `UsageError` in words instead of pydantic's own error."""
    try:
        return schema.model_validate(dict(values))
    except ValidationError as error:
        raise explain(error, schema) from None


def merge(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``under`` with the values of ``over``, mapping by mapping."""
    merged = dict(under)
    for key, value in over.items():
        known = merged.get(key)
        merged[key] = merge(known, value) if isinstance(known, Mapping) and isinstance(value, Mapping) else value
    return merged


def given(config: BaseModel) -> dict[str, Any]:
    """Return the settings that were given, without the defaults: what a run keeps as its config.yaml."""
    return config.model_dump(mode="json", exclude_unset=True)


def command(verb: str, config: BaseModel) -> list[str]:
    """Return the words of the command line that asks for the same: what was given, not the defaults."""
    positional, flags = [], []
    for name, value in given(config).items():
        if isinstance(getattr(config, name), BaseModel):
            flags += [word for key, item in _leaves(value, name) for word in ("--set", f"{key}={_as_yaml(item)}")]
        elif value is None:
            continue
        elif _is_positional(type(config), name):
            positional += [str(item) for item in (value if isinstance(value, list) else [value])]
        else:
            flags += _flag(name.replace("_", "-"), value, is_list=isinstance(value, list))
    return ["convsmith", *verb.split(), *positional, *flags]


def _flag(name: str, value: Any, is_list: bool) -> list[str]:
    if isinstance(value, bool):
        return [f"--{name}" if value else f"--no-{name}"]
    if is_list:
        return [word for item in value for word in (f"--{name}", str(item))]
    return [f"--{name}", f"{value:g}" if isinstance(value, float) and float(f"{value:g}") == value else str(value)]


def _leaves(value: Any, prefix: str) -> Iterable[tuple[str, Any]]:
    if not isinstance(value, Mapping):
        yield prefix, value
        return
    for key, item in value.items():
        yield from _leaves(item, f"{prefix}.{key}")


def _as_yaml(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def read_file(path: str | Path) -> dict[str, Any]:
    """Read a YAML or JSON file of settings; an empty file is no settings."""
    file = Path(path).expanduser()
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise UsageError(f"--config {path} cannot be read: {reason}") from None
    try:
        found = json.loads(text) if file.suffix == ".json" else yaml.safe_load(text)
    except (ValueError, yaml.YAMLError) as error:
        raise UsageError(f"--config {path} is not valid {'JSON' if file.suffix == '.json' else 'YAML'}: {_one_line(error)}") from None
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise UsageError(f"--config {path} holds a {type(found).__name__}; it must hold settings as `name: value`")
    return found


def parse_set(text: str) -> dict[str, Any]:
    """Turn ``training.schedule.kind=cosine`` into nested settings."""
    key, equals, value = text.partition("=")
    parts = [part.strip().replace("-", "_") for part in key.split(".")]
    if not equals or not all(parts):
        raise UsageError(f"--set {text!r} is not of the form a.b=value, for example --set training.momentum=0.8")
    try:
        found: Any = yaml.safe_load(value)
    except yaml.YAMLError:
        found = value
    for part in reversed(parts):
        found = {part: found}
    return dict(found)


def explain(error: ValidationError, schema: type[BaseModel]) -> UsageError:
    """Say in words what pydantic found, one line for each setting."""
    return UsageError("\n".join(dict.fromkeys(_explain_one(dict(found), schema) for found in error.errors())))


def _explain_one(found: Mapping[str, Any], schema: type[BaseModel]) -> str:
    path = [str(part) for part in found["loc"]]
    owner, names = _walk(schema, path)
    if found["type"] == "extra_forbidden":
        prefix = "".join(f"{part}." for part in path[:-1])
        allowed = ", ".join(owner.model_fields)
        return f"there is no setting {prefix}{path[-1]}.{near(path[-1], owner.model_fields)} Allowed here: {allowed}"
    label = ".".join(names) or schema.__name__
    if found["type"] == "missing":
        positional = _is_positional(owner, names[-1])
        what = f"{names[-1].upper()} is missing" if positional else f"the setting {label} is missing"
        description = owner.model_fields[names[-1]].description or "a value"
        return f"{what}: {description[0].lower()}{description[1:]}"
    message = str(found["msg"]).removeprefix("Value error, ").removeprefix("Input ")
    shown = f", got {found['input']!r}" if not isinstance(found["input"], dict | BaseModel) and repr(found["input"]) not in message else ""
    return f"{label}: {message}{shown}"


def _walk(schema: type[BaseModel], path: Sequence[str]) -> tuple[type[BaseModel], list[str]]:
    """Return the innermost schema a location goes through, and the field names without the branch names of unions."""
    owner, names = schema, []
    for part in path:
        if part not in owner.model_fields:
            continue
        names.append(part)
        inner = owner.model_fields[part].annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel) and part != path[-1]:
            owner = inner
    return owner, names


def _is_positional(schema: type[BaseModel], name: str) -> bool:
    extra = schema.model_fields[name].json_schema_extra
    return isinstance(extra, dict) and bool(extra.get("positional"))


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
