"""``convsmith studio``: the studio in a browser, served from this machine."""

from __future__ import annotations

import importlib.util
from inspect import Signature
from typing import Any

from cyclopts import App

from convsmith import jobs, runs, studio
from convsmith.cli import flags, output
from convsmith.errors import UnsupportedError
from convsmith.jobs.verbs import Verb

HELP = "See, train, compare, shrink and ship in a browser, served from this machine."
NEEDS = ("fastapi", "uvicorn", "python_multipart", "plotly")
#: The studio writes no run of its own; its flags are made as those of the verbs are.
VERB = Verb("studio", HELP, "nothing")


def run(*args: Any, **kwargs: Any) -> int:
    """Compose the settings and serve until Ctrl-C."""
    values = SIGNATURE.bind(*args, **kwargs).arguments
    settings = jobs.compose(
        studio.Settings, file=values.get("config"), sets=values.get("sets") or (), flags=flags.given(values, studio.Settings)
    )
    if values.get("print_config"):
        output.settings(settings, bool(values.get("json")))
        return 0
    missing = [name for name in NEEDS if importlib.util.find_spec(name) is None]
    if missing:
        raise UnsupportedError(f"the studio needs {', '.join(missing)}, which are not installed: pip install 'convsmith[studio]'")
    studio.serve(settings.root or runs.root(), settings)
    return 0


_WANTED = sorted([*flags.parameters(studio.Settings), *flags.common(VERB, False)], key=lambda parameter: parameter.kind)
SIGNATURE = Signature(_WANTED)
vars(run)["__signature__"] = SIGNATURE
run.__annotations__ = {parameter.name: parameter.annotation for parameter in _WANTED}

app = App(name="studio", help=HELP, suppress_keyboard_interrupt=False, help_format="plaintext")
app.default(run)
