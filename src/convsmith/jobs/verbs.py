"""Every verb by name: where it is defined, what it does, what it writes. Nothing is imported before it is used."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from types import ModuleType
from typing import Literal

from convsmith.errors import UsageError, near

Writes = Literal["new run", "given run", "resumed run", "nothing"]


@dataclass(frozen=True)
class Verb:
    """A verb of the command line. ``writes``: a new run folder, files into the run it is given, or nothing.

    Where that depends on the settings, the job's ``Config`` has a property ``writes``, which decides.
    """

    name: str
    help: str
    writes: Writes

    @property
    def module(self) -> ModuleType:
        """Import and return the job: a module with ``Config`` and ``run(config, record)``."""
        return importlib.import_module(f"convsmith.jobs.{self.name.replace(' ', '_')}")


VERBS: dict[str, Verb] = {
    verb.name: verb
    for verb in (
        Verb("forge", "From labelled images to a measured, exported network: the whole flow in one run.", "new run"),
        Verb("check", "Look at the images: classes, sizes, and every file that cannot be used, with the reason.", "nothing"),
        Verb("pack", "Put images into one file, or shards, that training reads fast.", "nothing"),
        Verb("preview", "Show training images as the network will see them, on a contact sheet.", "nothing"),
        Verb("probe", "Measure what a pretrained network knows of the images, stage by stage, and what to do with it.", "nothing"),
        Verb("doctor", "Find the one bottleneck of a training on these images, and mend it.", "nothing"),
        Verb("train", "Train a network on labelled images and test it.", "new run"),
        Verb("sweep", "Try many settings of a verb, several at once and on several machines, and show which mattered.", "new run"),
        Verb("resume", "Go on with a run that was interrupted or killed, exactly where it was.", "resumed run"),
        Verb("eval", "Evaluate a network on labelled images: accuracy, each class, confusion, calibration.", "given run"),
        Verb("average", "Measure what averaging answers or weights gains, and what it costs.", "given run"),
        Verb("predict", "Name what is on images.", "nothing"),
        Verb("inspect", "Show what each layer of a network costs and sees.", "nothing"),
        Verb("explain", "Show what one image does in a trained network: activations, filters, and where the answer comes from.", "nothing"),
        Verb("precision", "Find how few bits a trained network needs.", "given run"),
        Verb("redesign", "Make a trained network quicker by edits chosen by measured time, and heal it.", "new run"),
        Verb("export", "Write a trained network as one file that takes plain images, and prove it right.", "given run"),
        Verb("card", "Write a run's model card: data, metrics, intended use, files and speeds.", "given run"),
        Verb("serve", "Answer over HTTP what is on images.", "nothing"),
        Verb("reproduce", "Run the experiments of a paper on low precision again, its figures beside ours.", "new run"),
        Verb("shrink", "Search smaller and faster networks of a trained one, measured on this machine.", "given run"),
        Verb("bench", "Measure how fast a network answers on this machine.", "given run"),
    )
}


#: Verbs below a verb, by their whole name; their module is named with underscores.
BELOW: dict[str, Verb] = {
    verb.name: verb
    for verb in (
        Verb("precision sweep", "Trace accuracy and loss against bits, rounded at every operation, layer or batch.", "new run"),
        Verb("precision search", "Find the cheapest number format of every layer, or of everything a training stores.", "given run"),
        Verb(
            "precision certify",
            "Prove for each image that a plan of number formats cannot change its class, and that integer sums cannot overflow.",
            "given run",
        ),
        Verb(
            "precision quantize", "Make a network of codes from a trained one, without training or with a little, as a new run.", "new run"
        ),
        Verb("precision schedule", "Train with few bits first and more later, and show what that saves.", "given run"),
    )
}


def find(name: str) -> Verb:
    """Return the verb of that name; `UsageError` with the nearest otherwise."""
    if name not in VERBS and name not in BELOW:
        raise UsageError(f"there is no verb {name!r}; there are {', '.join([*VERBS, *BELOW])}.{near(name, [*VERBS, *BELOW])}")
    return VERBS[name] if name in VERBS else BELOW[name]
