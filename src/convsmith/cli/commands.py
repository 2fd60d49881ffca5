"""One command for each verb, made from its schema when it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from inspect import Signature
from pathlib import Path
from typing import Any

from cyclopts import App

from convsmith import jobs
from convsmith.cli import flags, output
from convsmith.cli.progress import Display
from convsmith.jobs import VERBS, Verb, presets
from convsmith.jobs.lifecycle import Watch, quote
from convsmith.jobs.verbs import BELOW, find

#: Commands below a verb, by name: where each is, imported when it is asked for, and its help.
BESIDE: dict[str, dict[str, tuple[str, str]]] = {
    "precision": {
        "formats": ("convsmith.cli.formats_command:app", "List the number formats: bits, range, epsilon, where they come from."),
        "show": ("convsmith.cli.plan_command:app", "Show a plan of number formats, and what each tensor of a network becomes."),
    },
}


def __getattr__(name: str) -> App:
    """Return the command of a verb, so that ``convsmith.cli.commands:train_command`` can be imported by name."""
    verb = name.removesuffix("_command").replace("_", " ")
    if not name.endswith("_command") or verb not in {**VERBS, **BELOW}:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return make(find(verb))


def make(verb: Verb, start: Callable[[Verb, Mapping[str, Any]], int] | None = None) -> App:
    """Return the command of a verb, its flags taken from the schema; ``start`` does something else with them than `launch`."""
    module = verb.module
    schema = module.Config
    wanted = [*flags.parameters(schema), *flags.common(verb, hasattr(module, "quote"))]
    wanted.sort(key=lambda parameter: parameter.kind)
    signature = Signature(wanted)

    def command(*args: Any, **kwargs: Any) -> int:
        bound = signature.bind(*args, **kwargs)
        return (start or launch)(verb, bound.arguments)

    vars(command)["__signature__"] = signature
    command.__name__ = verb.name.replace(" ", "_")
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in wanted}
    app = App(name=verb.name.split()[-1], help=_help(verb, schema), suppress_keyboard_interrupt=False, help_format="plaintext")
    app.default(command)
    for name, (place, told) in BESIDE.get(verb.name, {}).items():
        app.command(place, name=name, help=told)
    for below in BELOW.values():
        if below.name.startswith(f"{verb.name} "):
            place = f"convsmith.cli.commands:{below.name.replace(' ', '_')}_command"
            app.command(place, name=below.name.split()[-1], help=below.help)
    return app


def launch(verb: Verb, values: Mapping[str, Any]) -> int:
    """Compose the settings, do what was asked, print it, and return the exit code."""
    as_json, config = bool(values.get("json")), compose(verb, values)
    if values.get("print_config"):
        output.settings(config, as_json)
        return 0
    if values.get("dry_run"):
        output.plan(verb.name, quote(verb.name, config), as_json)
        return 0
    return _perform(verb, config, values.get("folder"), as_json)


def compose(verb: Verb, values: Mapping[str, Any]) -> Any:
    """Return the settings of a verb from the parsed command line."""
    schema, preset = verb.module.Config, values.get("preset")
    return jobs.compose(
        schema,
        preset=presets.find(verb.name, preset) if preset else None,
        file=values.get("config"),
        sets=values.get("sets") or (),
        flags=flags.given(values, schema),
    )


def _perform(verb: Verb, config: Any, out: Path | None, as_json: bool) -> int:
    with Display(quiet=as_json) as display:
        watch = Watch(show=display.show, hear=display.hear)
        try:
            outcome = jobs.perform(verb.name, config, out=out, watch=watch)
        except BaseException as error:
            error.__dict__["run_folder"] = watch.folder
            raise
    return output.result(outcome, verb.module, as_json)


def _help(verb: Verb, schema: Any) -> str:
    nested = [name for name in schema.model_fields if name not in {p.name for p in flags.parameters(schema)}]
    if not nested:
        return verb.help
    reached = ", ".join(f"--set {name}.KEY=VALUE" for name in nested)
    return f"{verb.help}\n\nFurther settings: {reached}; docs/cli.md lists them."
