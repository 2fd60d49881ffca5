"""Every architecture by name, with what its source published."""

from __future__ import annotations

from convsmith.models.entry import Entry

_ROOM = "convsmith.models"
_LECUN = "LeCun et al. 1998, Gradient-based learning applied to document recognition"
_HAN = "Han et al. 2015, arXiv 1506.02626, table 1"
_CIFAR = "He et al. 2015, arXiv 1512.03385, table 6"
_VISION = "torchvision documentation, table of classification weights"
_GREY28, _GREY32, _CIFAR32, _PHOTO128, _PHOTO224 = (1, 28, 28), (1, 32, 32), (3, 32, 32), (3, 128, 128), (3, 224, 224)
_LINEAR = f"{_ROOM}.perceptron:LinearClassifier"
_RESNET = f"{_ROOM}.resnet:ResNet"
_CIFAR_RESNET = f"{_ROOM}.resnet_cifar:CifarResNet"
_BASIC, _DEEP = "basic", "bottleneck"

# name: family, builder, input (c, h, w), classes, source, parameters, MACs, both as published, smallest side, options
# fmt: off
ZOO: dict[str, Entry] = {
    "smallnet": Entry("convsmith", f"{_ROOM}.smallnet:SmallNet", _GREY28, 10, "Convsmith", smallest=8),
    "photonet": Entry("convsmith", f"{_ROOM}.photonet:PhotoNet", _PHOTO128, 10, "Convsmith", smallest=32),
    "perceptron": Entry("linear", _LINEAR, _GREY28, 10, _LECUN, 7850, 7840, "7850", "", 1, {"start": "zeros"}),
    "logistic": Entry("linear", _LINEAR, _GREY28, 10, _LECUN, 7850, 7840, "7850"),
    "mlp": Entry("mlp", f"{_ROOM}.perceptron:MLP", _GREY28, 10, _HAN, 266610, 266200, "267K"),
    "lenet5": Entry("lenet", f"{_ROOM}.lenet:LeNet5", _GREY32, 10, _LECUN, 61706, 416520, smallest=16),
    "resnet18": Entry("resnet", _RESNET, _PHOTO224, 1000, _VISION, 11689512, 1814073344, "11689512", "1.81G", 32,
                      {"block": _BASIC, "depths": (2, 2, 2, 2)}),
    "resnet34": Entry("resnet", _RESNET, _PHOTO224, 1000, _VISION, 21797672, 3663761408, "21797672", "3.66G", 32,
                      {"block": _BASIC, "depths": (3, 4, 6, 3)}),
    "resnet50": Entry("resnet", _RESNET, _PHOTO224, 1000, _VISION, 25557032, 4089184256, "25557032", "4.09G", 32,
                      {"block": _DEEP, "depths": (3, 4, 6, 3)}),
    "resnet101": Entry("resnet", _RESNET, _PHOTO224, 1000, _VISION, 44549160, 7801405440, "44549160", "7.80G", 32,
                       {"block": _DEEP, "depths": (3, 4, 23, 3)}),
    "resnet20": Entry("resnet_cifar", _CIFAR_RESNET, _CIFAR32, 10, _CIFAR, 269722, 40551040, "0.27M", "", 8, {"depth": 20}),
    "resnet32": Entry("resnet_cifar", _CIFAR_RESNET, _CIFAR32, 10, _CIFAR, 464154, 68862592, "0.46M", "", 8, {"depth": 32}),
    "resnet44": Entry("resnet_cifar", _CIFAR_RESNET, _CIFAR32, 10, _CIFAR, 658586, 97174144, "0.66M", "", 8, {"depth": 44}),
    "resnet56": Entry("resnet_cifar", _CIFAR_RESNET, _CIFAR32, 10, _CIFAR, 853018, 125485696, "0.85M", "", 8, {"depth": 56}),
    "resnet110": Entry("resnet_cifar", _CIFAR_RESNET, _CIFAR32, 10, _CIFAR, 1727962, 252887680, "1.7M", "", 8, {"depth": 110}),
}
# fmt: on
