"""Every architecture by name, with what its source published."""

from __future__ import annotations

from convsmith.models.entry import Entry

_ROOM = "convsmith.models"
_LECUN = "LeCun et al. 1998, Gradient-based learning applied to document recognition"
_HAN = "Han et al. 2015, arXiv 1506.02626, table 1"
_CIFAR = "He et al. 2015, arXiv 1512.03385, table 6"
_VGG_PAPER = "Simonyan, Zisserman 2014, arXiv 1409.1556, table 2"
_NIN = "Springenberg et al. 2014, arXiv 1412.6806, table 3"
_HOWARD = "Howard et al. 2017, arXiv 1704.04861, table 6"
_TINY = "Banbury et al. 2021, MLPerf Tiny, arXiv 2106.07597"
_GUPTA = "Gupta et al. 2015, arXiv 1502.02551"
_COURBARIAUX = "Courbariaux, Bengio, David 2014, arXiv 1412.7024"
_CONNECT = "Courbariaux, Bengio, David 2015, arXiv 1511.00363"
_NET = "Courbariaux et al. 2016, arXiv 1602.02830"
_VISION = "torchvision documentation, table of classification weights"
_GREY28, _GREY32, _CIFAR32, _PHOTO128, _PHOTO224 = (1, 28, 28), (1, 32, 32), (3, 32, 32), (3, 128, 128), (3, 224, 224)
_LQ = "Zhang et al. 2018, arXiv 1807.10029"
_BINARY, _BINARY_CONV = f"{_ROOM}.binary_mlp:BinaryMLP", f"{_ROOM}.binary_convnet:BinaryConvNet"
_LARQ, _LARQ_ZOO = f"{_ROOM}.larq_quicknet:LarqQuickNet", "Larq Zoo, sota.QuickNet 1.0; arXiv 2011.09398"
_LINEAR = f"{_ROOM}.perceptron:LinearClassifier"
_RESNET = f"{_ROOM}.resnet:ResNet"
_CIFAR_RESNET = f"{_ROOM}.resnet_cifar:CifarResNet"
_VGG = f"{_ROOM}.vgg:VGG"
_SQUEEZE = f"{_ROOM}.squeezenet:SqueezeNet"
_MOBILE1, _MOBILE2 = f"{_ROOM}.mobilenet_v1:MobileNetV1", f"{_ROOM}.mobilenet_v2:MobileNetV2"
_BASIC, _DEEP = "basic", "bottleneck"

# name: family, builder, input (c, h, w), classes, source, parameters, MACs, both as published, smallest side, options
# fmt: off
ZOO: dict[str, Entry] = {
    "smallnet": Entry("convsmith", f"{_ROOM}.smallnet:SmallNet", _GREY28, 10, "Convsmith", smallest=8),
    "quicknet": Entry("convsmith", f"{_ROOM}.quicknet:QuickNet", _GREY28, 10, "Convsmith", smallest=8),
    "photonet": Entry("convsmith", f"{_ROOM}.photonet:PhotoNet", _PHOTO128, 10, "Convsmith", smallest=32),
    "speednet": Entry("convsmith", f"{_ROOM}.speednet:SpeedNet", _CIFAR32, 10, "Convsmith", smallest=16),
    "perceptron": Entry("linear", _LINEAR, _GREY28, 10, _LECUN, 7850, 7840, "7850", "", 1, {"start": "zeros"}),
    "logistic": Entry("linear", _LINEAR, _GREY28, 10, _LECUN, 7850, 7840, "7850"),
    "mlp": Entry("mlp", f"{_ROOM}.perceptron:MLP", _GREY28, 10, _HAN, 266610, 266200, "267K"),
    "gupta_mlp": Entry("mlp", f"{_ROOM}.perceptron:MLP", _GREY28, 10, _GUPTA, 1796010, 1794000, "", "", 1,
                       {"hidden": (1000, 1000), "start": 0.01}),
    "maxout_mnist": Entry("maxout", f"{_ROOM}.maxout:MaxoutNet", _GREY28, 10, _COURBARIAUX, 1233610, 1231200),
    "binaryconnect_mlp": Entry("binary", _BINARY, _GREY28, 10, _CONNECT, 2919454, 2910208, "", "", 1, {"hidden": (1024, 1024, 1024)}),
    "binarynet_mlp": Entry("binary", _BINARY, _GREY28, 10, _NET, 36843550, 36806656, "", "", 1,
                           {"hidden": (4096, 4096, 4096), "activation": "hard_tanh"}),
    "binaryconnect_cifar": Entry("binary", _BINARY_CONV, _CIFAR32, 10, _CONNECT, 14029716, 616966144, "", "", 8, {"activation": "relu"}),
    "binarynet_cifar": Entry("binary", _BINARY_CONV, _CIFAR32, 10, _NET, 14029716, 616966144, "", "", 8),
    "vgg_small": Entry("binary", _BINARY_CONV, _CIFAR32, 10, _LQ, 4660106, 607600640, "", "", 8, {"hidden": (), "binary_first": False}),
    "bireal18": Entry("binary", f"{_ROOM}.bireal:BiRealNet", _PHOTO224, 1000, "Liu et al. 2018, arXiv 1808.00278", 11689512, 1814073344,
                      "", "", 32),
    "reactnet_a": Entry("binary", f"{_ROOM}.reactnet:ReActNet", _PHOTO224, 1000, "Liu et al. 2020, arXiv 2003.03488", 29343592, 4828758016,
                        "", "", 32),
    "larq_quicknet": Entry("binary", _LARQ, _PHOTO224, 1000, _LARQ_ZOO, 13234056, 1879339776, "", "", 32),
    "larq_quicknet_small": Entry("binary", _LARQ, _PHOTO224, 1000, _LARQ_ZOO, 12655672, 1171996160, "", "", 32,
                                 {"widths": (32, 64, 256, 512)}),
    "larq_quicknet_large": Entry("binary", _LARQ, _PHOTO224, 1000, _LARQ_ZOO, 23342216, 3729027840, "", "", 32, {"depths": (6, 8, 12, 6)}),
    "gupta_lenet": Entry("lenet", f"{_ROOM}.gupta:GuptaLeNet", _GREY28, 10, _GUPTA, 37610, 354048, "", "", 16),
    "gupta_cifar": Entry("gupta", f"{_ROOM}.gupta:GuptaCifarNet", _CIFAR32, 10, _GUPTA, 220042, 37693440, "", "", 4),
    "lenet5": Entry("lenet", f"{_ROOM}.lenet:LeNet5", _GREY32, 10, _LECUN, 61706, 416520, smallest=16),
    "alexnet": Entry("alexnet", f"{_ROOM}.alexnet:AlexNet", _PHOTO224, 1000, _VISION, 61100840, 714188480, "61100840", "0.71G", 63),
    "vgg11": Entry("vgg", _VGG, _PHOTO224, 1000, _VISION, 132863336, 7609090048, "132863336", "7.61G", 32, {"configuration": "A"}),
    "vgg13": Entry("vgg", _VGG, _PHOTO224, 1000, _VISION, 133047848, 11308466176, "133047848", "11.31G", 32, {"configuration": "B"}),
    "vgg16c": Entry("vgg", _VGG, _PHOTO224, 1000, _VGG_PAPER, 133638952, 11770888192, "134M", "", 32, {"configuration": "C"}),
    "vgg16": Entry("vgg", _VGG, _PHOTO224, 1000, _VISION, 138357544, 15470264320, "138357544", "15.47G", 32, {"configuration": "D"}),
    "vgg19": Entry("vgg", _VGG, _PHOTO224, 1000, _VISION, 143667240, 19632062464, "143667240", "19.63G", 32, {"configuration": "E"}),
    "vgg11_bn": Entry("vgg", _VGG, _PHOTO224, 1000, _VISION, 132868840, 7609090048, "132868840", "7.61G", 32,
                      {"configuration": "A", "batch_norm": True}),
    "vgg13_bn": Entry("vgg", _VGG, _PHOTO224, 1000, _VISION, 133053736, 11308466176, "133053736", "11.31G", 32,
                      {"configuration": "B", "batch_norm": True}),
    "vgg16_bn": Entry("vgg", _VGG, _PHOTO224, 1000, _VISION, 138365992, 15470264320, "138365992", "15.47G", 32,
                      {"configuration": "D", "batch_norm": True}),
    "vgg19_bn": Entry("vgg", _VGG, _PHOTO224, 1000, _VISION, 143678248, 19632062464, "143678248", "19.63G", 32,
                      {"configuration": "E", "batch_norm": True}),
    "nin": Entry("nin", f"{_ROOM}.nin:NetworkInNetwork", _CIFAR32, 10, _NIN, 966986, 222486528, "1M", "", 8),
    "googlenet": Entry("googlenet", f"{_ROOM}.googlenet:GoogLeNet", _PHOTO224, 1000, _VISION, 6624904, 1498376192, "6624904", "1.50G", 32),
    "squeezenet1_0": Entry("squeezenet", _SQUEEZE, _PHOTO224, 1000, _VISION, 1248424, 818924576, "1248424", "0.82G", 32,
                           {"version": "1.0"}),
    "squeezenet1_1": Entry("squeezenet", _SQUEEZE, _PHOTO224, 1000, _VISION, 1235496, 349151936, "1235496", "0.35G", 32,
                           {"version": "1.1"}),
    "mobilenet_v1": Entry("mobilenet", _MOBILE1, _PHOTO224, 1000, _HOWARD, 4231976, 568740352, "4.2M", "569M", 32),
    "mobilenet_v2": Entry("mobilenet", _MOBILE2, _PHOTO224, 1000, _VISION, 3504872, 300774272, "3504872", "0.30G", 32),
    "resnet18": Entry("resnet", _RESNET, _PHOTO224, 1000, _VISION, 11689512, 1814073344, "11689512", "1.81G", 32,
                      {"block": _BASIC, "depths": (2, 2, 2, 2)}),
    "resnet34": Entry("resnet", _RESNET, _PHOTO224, 1000, _VISION, 21797672, 3663761408, "21797672", "3.66G", 32,
                      {"block": _BASIC, "depths": (3, 4, 6, 3)}),
    "resnet50": Entry("resnet", _RESNET, _PHOTO224, 1000, _VISION, 25557032, 4089184256, "25557032", "4.09G", 32,
                      {"block": _DEEP, "depths": (3, 4, 6, 3)}),
    "resnet101": Entry("resnet", _RESNET, _PHOTO224, 1000, _VISION, 44549160, 7801405440, "44549160", "7.80G", 32,
                       {"block": _DEEP, "depths": (3, 4, 23, 3)}),
    "mlperf_resnet8": Entry("resnet_tiny", f"{_ROOM}.resnet_tiny:TinyResNet", _CIFAR32, 10, _TINY, 78186, 12501632, "", "", 8),
    "resnet20": Entry("resnet_cifar", _CIFAR_RESNET, _CIFAR32, 10, _CIFAR, 269722, 40551040, "0.27M", "", 8, {"depth": 20}),
    "resnet32": Entry("resnet_cifar", _CIFAR_RESNET, _CIFAR32, 10, _CIFAR, 464154, 68862592, "0.46M", "", 8, {"depth": 32}),
    "resnet44": Entry("resnet_cifar", _CIFAR_RESNET, _CIFAR32, 10, _CIFAR, 658586, 97174144, "0.66M", "", 8, {"depth": 44}),
    "resnet56": Entry("resnet_cifar", _CIFAR_RESNET, _CIFAR32, 10, _CIFAR, 853018, 125485696, "0.85M", "", 8, {"depth": 56}),
    "resnet110": Entry("resnet_cifar", _CIFAR_RESNET, _CIFAR32, 10, _CIFAR, 1727962, 252887680, "1.7M", "", 8, {"depth": 110}),
}
# fmt: on
