"""Pretrained networks from everywhere: which architecture a file holds, how it wants its input, and a check that it behaves."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from convsmith import models
from convsmith.data import normalise, resize
from convsmith.data.preprocess import Preprocess
from convsmith.errors import DataError, UsageError
from convsmith.interop import caffe, keras
from convsmith.interop.transplant import Layer, fits, head_width, layers_of, transplant
from convsmith.models import convention as conventions
from convsmith.models import hub, weights
from convsmith.models.convention import CAFFE, KERAS, TENSORFLOW, TORCHVISION, Convention
from convsmith.models.cut import cut
from convsmith.models.recognition import outline, published, recognise

Images = Iterable[NDArray[np.uint8]]
BY_ORDER = (".h5", ".hdf5", ".keras", ".caffemodel")
"""Files whose names of arrays are not torch's: their layers go to those of the architecture by order and shape."""

SIDE_FILE = ".convention.json"


@dataclass(frozen=True)
class Source:
    """A pretrained network, before it is built.

    ``model``: its architecture in the zoo, or timm/<name>. ``options``: what it is built with. ``classes``: of its own last layer, 0
    where the file has none. ``settled``: whether ``convention`` is known, from the file or the caller, or only the usual one.
    ``reasons``: how all that was found, in words.
    """

    path: str
    model: str
    convention: Convention
    classes: int
    settled: bool
    options: Mapping[str, Any] = field(default_factory=dict)
    reasons: tuple[str, ...] = ()

    def with_convention(self, convention: Convention, reason: str) -> Source:
        """Return the source under another convention, settled."""
        return replace(self, convention=convention, settled=True, options=_options(self.model, convention), reasons=(*self.reasons, reason))


def find(path: str | Path, *, model: str = "auto", convention: str = "auto") -> Source:
    """Return what a file of weights is: .safetensors, .pth, .pt, .th, .h5, .caffemodel, or a name torchvision/<name> or timm/<name>.

    ``model``: an architecture of the zoo; ``auto`` tells it from names and shapes. ``convention``: a name of
    `models.convention.CONVENTIONS`; ``auto`` reads the file's side file ``<file>.convention.json`` or a .caffemodel's .prototxt, else takes
    the usual one of the format.

    Raises: DataError when the file is none, or fits no architecture; UsageError for unknown names.
    """
    if str(path).startswith("timm/"):
        return _from_timm(str(path), convention)
    if str(path).startswith("torchvision/") and not Path(path).exists():
        name = str(path).removeprefix("torchvision/")
        return _named(find(hub.fetch(name), model=name if model == "auto" else model, convention=convention), str(path))
    path = Path(path).expanduser()
    if path.suffix in BY_ORDER:
        layers = read_layers(path)
        name = _by_order(layers, model, path)
        classes = head_width(outline(models.ZOO[name]), layers) if name in models.ZOO else 0
    else:
        shapes = {key: tuple(value.shape) for key, value in weights.read(path).items()}
        found = recognise(shapes) if model == "auto" else model
        if found is None:
            raise DataError(f"the arrays of {str(path)!r} are those of no architecture of the zoo; name it with model=...")
        name, classes = found, _classes(found, shapes)
    return _described(path, name, classes, convention, "as asked" if model != "auto" else "told by the names and shapes of its arrays")


def _described(path: Path, model: str, classes: int, asked: str, why: str) -> Source:
    known, reason, settled = _convention(path, model, asked)
    entry = models.ZOO.get(model)
    if entry is not None and reason.startswith("the usual") and entry.input[1] < 64:
        known = known.resized(*entry.input[1:])
    whole = f"for {classes} classes" if classes else "without its last layer"
    reasons = (f"{path.name} is {model} {whole}: {why}", f"its input is that of {known.name}: {reason}")
    return Source(str(path), model, known, classes, settled, _options(model, known), reasons)


def _convention(path: Path, model: str, asked: str) -> tuple[Convention, str, bool]:
    side = path.with_name(path.name + SIDE_FILE)
    if asked != "auto":
        return conventions.find(asked), "as asked", True
    if side.is_file():
        try:
            return Convention.from_dict(json.loads(side.read_text())), f"{side.name} says so", True
        except (ValueError, TypeError, KeyError) as error:
            raise DataError(f"{str(side)!r} does not describe an input convention: {error}") from None
    if path.suffix == ".caffemodel":
        description = description_of(path)
        found = caffe.convention(description) if description else CAFFE
        return found, f"{description.name} says so" if description else "the usual one of Caffe", True
    if path.suffix in BY_ORDER:
        # networks of Caffe that were carried to Keras keep its input
        return (CAFFE, "the usual one of this network", True) if model.startswith("squeezenet") else (KERAS, "the usual one of Keras", True)
    # only these were published by TensorFlow too; of the others every file in use is torch's
    return TORCHVISION, "the usual one of torch", not _takes_same_padding(model)


def _options(model: str, convention: Convention) -> dict[str, Any]:
    return {"same_padding": True} if convention.padding == "same" and _takes_same_padding(model) else {}


def _takes_same_padding(model: str) -> bool:
    return model.startswith("mobilenet")


def _named(source: Source, path: str) -> Source:
    return replace(source, path=path)


def _from_timm(path: str, asked: str) -> Source:
    from convsmith.models.timm_models import describe

    described = describe(path)
    found = Convention("timm", described["mean"], described["std"], height=described["size"][0], width=described["size"][1])
    if asked != "auto":
        found = conventions.find(asked)
    return Source(path, path, found, described["classes"], True, {}, (f"{path} is fetched by timm, which says its input too",))


def description_of(caffemodel: Path) -> Path | None:
    """Return the .prototxt beside a .caffemodel: of the same name, or deploy.prototxt."""
    candidates = (caffemodel.with_suffix(".prototxt"), caffemodel.with_name("deploy.prototxt"))
    return next((path for path in candidates if path.is_file()), None)


def read_layers(path: Path) -> tuple[Layer, ...]:
    """Return the layers with arrays of a .h5 or .caffemodel file."""
    if path.suffix == ".caffemodel":
        return layers_of(caffe.read(description_of(path), path))
    return keras.read(path)


def _by_order(layers: Sequence[Layer], model: str, path: Path) -> str:
    if model != "auto":
        return model
    for name, network in published():
        if fits(network, layers):
            return name
    raise DataError(f"the layers of {str(path)!r} are those of no architecture of the zoo; name it with model=...")


def _classes(model: str, shapes: Mapping[str, tuple[int, ...]]) -> int:
    if model not in models.ZOO:
        raise UsageError(f"{model!r} is no architecture of the zoo; weights from a file need one")
    network = outline(models.ZOO[model])
    last = [name for name, part in network.named_modules() if isinstance(part, nn.Conv2d | nn.Linear)][-1]
    return int(shapes.get(f"{last}.weight", (0,))[0])


def load(source: Source, *, classes: int | None = None, input_size: tuple[int, int] | None = None, **options: Any) -> nn.Module:
    """Build the network of a source with its weights; ``classes`` other than its own give it a new head with a random start.

    The network reads red, green, blue, whatever the file's order: the first layer's channels are turned round where needed. An option
    ``cut`` names the module after which a new head follows.

    Raises: DataError for weights that do not fit.
    """
    stage = {**source.options, **options}.pop("cut", None)
    whole = replace(source, options={key: value for key, value in source.options.items() if key != "cut"})
    options.pop("cut", None)
    network = _load_whole(whole, classes, input_size, options)
    if stage is None:
        return network
    height, width = input_size or (source.convention.height, source.convention.width)
    return cut(network, stage, classes or source.classes, (3, height, width))


def _load_whole(source: Source, classes: int | None, input_size: tuple[int, int] | None, options: Mapping[str, Any]) -> nn.Module:
    classes = classes or source.classes
    built = {**source.options, **options}
    if source.model.startswith("timm/"):
        return models.load(source.model, classes=classes, input_size=input_size, pretrained=True, **built)
    path = Path(hub.fetch(source.path) if source.path.startswith("torchvision/") else source.path)
    network = models.load(source.model, classes=classes, input_size=input_size, **built)
    if path.suffix in BY_ORDER:
        transplant(network, read_layers(path), order=source.convention.order)
        return network
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r".*was trained for \d+ classes")
        models.load_weights(network, path)
    return network


def logits(source: Source, images: Images, *, crop_fraction: float = 1.0, batch: int = 32) -> NDArray[np.float32]:
    """Return what the source's own classifier says of decoded images, float32 ``(n, classes)``."""
    network, preprocess = load(source).eval(), source.convention.preprocess(crop_fraction=crop_fraction)
    x_nchw = torch.from_numpy(normalise(_resized(images, preprocess), preprocess))
    with torch.inference_mode():
        return torch.cat([network(part) for part in torch.split(x_nchw, batch)]).numpy()


def _resized(images: Images, preprocess: Preprocess) -> NDArray[np.uint8]:
    return np.stack([resize(image, preprocess) for image in images])


def accuracy(source: Source, images: Images, labels: NDArray[np.int64], *, crop_fraction: float = 1.0) -> float:
    """Return the share of labelled sample images that the source names right: the check that its input is understood.

    A wrong order of channels, mean or padding costs a few points and no error message; compare with what its publisher states.
    """
    return float((logits(source, images, crop_fraction=crop_fraction).argmax(1) == labels).mean())


def settle(source: Source, images: Sequence[NDArray[np.uint8]]) -> Source:
    """Return the source with its convention decided by images of any kind, where the file does not say it.

    Both conventions in use for such files are tried, torchvision's and TensorFlow's, with their own paddings: under the right one the
    inputs of every batch norm have about the mean and variance that it stored in training (`strangeness`). How sure the classifier is
    tells less: on photos of waste it was surer under the wrong one.
    """
    if source.settled or not len(images):
        return replace(source, settled=True)
    strange = {}
    for candidate in (TORCHVISION, TENSORFLOW):
        trial = source.with_convention(candidate, "")
        preprocess = candidate.preprocess(160)
        strange[candidate.name] = strangeness(load(trial, classes=source.classes or 2), _resized(images, preprocess), preprocess)
    best = min(strange, key=lambda name: strange[name])
    other = max(strange, key=lambda name: strange[name])
    reason = (
        f"its input is that of {best}: on {len(images)} images its norms meet what they were trained on more nearly so, "
        f"{strange[best]:.2f} away against {strange[other]:.2f} with that of {other}"
    )
    return replace(source.with_convention(conventions.find(best), reason), reasons=(source.reasons[0], reason))


def strangeness(network: nn.Module, x_nhwc: NDArray[np.uint8], preprocess: Preprocess) -> float:
    """Return how far the inputs of the batch norms are from their stored statistics, a mean over norms and maps.

    Squared distance of the means in units of the stored variance, plus the distance of the logarithms of the deviations.
    """
    found: list[float] = []

    def compare(norm: nn.BatchNorm2d, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        assert norm.running_mean is not None and norm.running_var is not None
        mean, variance = inputs[0].mean((0, 2, 3)), inputs[0].var((0, 2, 3)) + norm.eps
        stored = norm.running_var + norm.eps
        apart = (mean - norm.running_mean) ** 2 / stored + 0.5 * torch.log(variance / stored).abs()
        found.append(float(apart.mean()))

    hooks = [part.register_forward_hook(compare) for part in network.modules() if isinstance(part, nn.BatchNorm2d)]
    try:
        with torch.inference_mode():
            network.eval()(torch.from_numpy(normalise(x_nhwc, preprocess)))
    finally:
        for hook in hooks:
            hook.remove()
    return float(np.mean(found)) if found else 0.0
