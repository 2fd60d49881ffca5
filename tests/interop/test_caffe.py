"""Caffe networks against OpenCV's own reading of the same files, layer by layer and whole."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from caffe_files import caffemodel, description, write

from convsmith.errors import DataError, UnsupportedError
from convsmith.graph import Graph
from convsmith.interop import caffe
from convsmith.interop.torch_module import GraphModule
from convsmith.kernels import reference

RNG = np.random.default_rng(20)


def draw(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def positive(*shape: int) -> np.ndarray:
    return np.abs(draw(*shape)) + np.float32(0.1)


def in_torch(graph: Graph, x_nchw: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return np.asarray(GraphModule(graph)(torch.from_numpy(x_nchw)))


def in_numpy(graph: Graph, x_nchw: np.ndarray) -> np.ndarray:
    values = {graph.inputs[0].name: x_nchw, **graph.weights, "": None}
    for node in graph:
        values.update(zip(node.outputs, reference.run(node.op, [values[name] for name in node.inputs], node.attributes), strict=False))
    return np.asarray(values[graph.outputs[0].name])


def in_opencv(text: Path, binary: Path, x_nchw: np.ndarray) -> np.ndarray:
    cv2 = pytest.importorskip("cv2")
    network = cv2.dnn.readNetFromCaffe(str(text), str(binary))
    network.setInput(x_nchw)
    return np.asarray(network.forward())


CONV = "convolution_param { num_output: 4 %s }"
ONE = 'layer {{ name: "a" type: "{}" bottom: "data" top: "a" {} }}'
TWO = 'layer {{ name: "b" type: "{}" bottom: "data" bottom: "data" top: "b" {} }}'
ARRAYS = {"a": [draw(4, 3, 3, 3), draw(4)]}

# name: layers, arrays of each
LAYERS: dict[str, tuple[str, dict[str, list[np.ndarray]]]] = {
    "convolution": (ONE.format("Convolution", CONV % "kernel_size: 3 pad: 1 stride: 2"), ARRAYS),
    "convolution of sides": (
        ONE.format("Convolution", CONV % "kernel_h: 3 kernel_w: 1 pad_h: 1 pad_w: 0 stride_h: 1 stride_w: 2 bias_term: false"),
        {"a": [draw(4, 3, 3, 1)]},
    ),
    "dilated convolution": (ONE.format("Convolution", CONV % "kernel_size: 3 dilation: 2"), ARRAYS),
    "grouped convolution": (
        ONE.format("Convolution", "convolution_param { num_output: 6 group: 3 kernel_size: 3 }"),
        {"a": [draw(6, 1, 3, 3), draw(6)]},
    ),
    "deconvolution": (
        ONE.format("Deconvolution", "convolution_param { num_output: 4 kernel_size: 4 stride: 2 pad: 1 }"),
        {"a": [draw(3, 4, 4, 4), draw(4)]},
    ),
    "inner product": (ONE.format("InnerProduct", "inner_product_param { num_output: 5 }"), {"a": [draw(5, 429), draw(5)]}),
    "maximum, sizes rounded up": (ONE.format("Pooling", "pooling_param { pool: MAX kernel_size: 3 stride: 2 }"), {}),
    "maximum, padded": (ONE.format("Pooling", "pooling_param { kernel_size: 3 stride: 2 pad: 1 }"), {}),
    "average, whole windows": (ONE.format("Pooling", "pooling_param { pool: AVE kernel_size: 3 stride: 2 }"), {}),
    "average, padded": (ONE.format("Pooling", "pooling_param { pool: AVE kernel_size: 3 stride: 1 pad: 1 }"), {}),
    "average, padded, rounded up": (ONE.format("Pooling", "pooling_param { pool: AVE kernel_size: 3 stride: 3 pad: 1 }"), {}),
    "global average": (ONE.format("Pooling", "pooling_param { pool: AVE global_pooling: true }"), {}),
    "relu": (ONE.format("ReLU", ""), {}),
    "leaky relu": (ONE.format("ReLU", "relu_param { negative_slope: 0.1 }"), {}),
    "prelu": (ONE.format("PReLU", ""), {"a": [positive(3)]}),
    "elu": (ONE.format("ELU", ""), {}),
    "sigmoid": (ONE.format("Sigmoid", ""), {}),
    "tanh": (ONE.format("TanH", ""), {}),
    "absolute value": (ONE.format("AbsVal", ""), {}),
    "softplus": (ONE.format("BNLL", ""), {}),
    "softmax": (ONE.format("Softmax", ""), {}),
    "power": (ONE.format("Power", "power_param { power: 2 scale: 0.5 shift: 3 }"), {}),
    "local response norm": (ONE.format("LRN", "lrn_param { local_size: 3 alpha: 0.5 beta: 0.75 }"), {}),
    "local response norm in maps": (ONE.format("LRN", "lrn_param { local_size: 3 alpha: 0.5 norm_region: WITHIN_CHANNEL }"), {}),
    "sum": (TWO.format("Eltwise", ""), {}),
    "weighted sum": (TWO.format("Eltwise", "eltwise_param { operation: SUM coeff: 1 coeff: -0.5 }"), {}),
    "product": (TWO.format("Eltwise", "eltwise_param { operation: PROD }"), {}),
    "maximum of two": (TWO.format("Eltwise", "eltwise_param { operation: MAX }"), {}),
    "concatenation": (TWO.format("Concat", ""), {}),
    "flatten": (ONE.format("Flatten", ""), {}),
    "reshape": (ONE.format("Reshape", "reshape_param { shape { dim: 0 dim: -1 dim: 11 } }"), {}),
    "dropout": (ONE.format("Dropout", "dropout_param { dropout_ratio: 0.3 }"), {}),
    "batch norm and scale": (
        ONE.format("BatchNorm", "batch_norm_param { eps: 0.001 }")
        + 'layer { name: "s" type: "Scale" bottom: "a" top: "a" scale_param { bias_term: true } }',
        {"a": [draw(3), positive(3), np.array([4.0], np.float32)], "s": [draw(3), draw(3)]},
    ),
    "scale alone": (ONE.format("Scale", "scale_param { bias_term: true }"), {"a": [draw(3), draw(3)]}),
}


@pytest.mark.extra
@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_computes_what_opencv_computes(name: str, tmp_path: Path) -> None:
    layers, arrays = LAYERS[name]
    text, binary = write(tmp_path, layers, arrays)
    x = draw(2, 3, 13, 11)
    expected = in_opencv(text, binary, x)
    graph = caffe.read(text, binary)
    # float32 sums of at most 429 products in another order
    np.testing.assert_allclose(in_torch(graph, x).reshape(expected.shape), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(in_numpy(graph, x).reshape(expected.shape), expected, rtol=1e-4, atol=1e-5)
    assert graph.outputs[0].shape[1:] == in_torch(graph, x).shape[1:]


def test_layers_that_opencv_does_not_read(tmp_path: Path) -> None:
    x = positive(2, 4, 5, 5)
    shape = (2, 4, 5, 5)
    exp = caffe.read(*write(tmp_path, ONE.format("Exp", "exp_param { base: 2 scale: 0.5 shift: 1 }"), {}, shape))
    np.testing.assert_allclose(in_torch(exp, x), 2 ** (1 + x / 2), rtol=1e-5)
    log = caffe.read(*write(tmp_path, ONE.format("Log", "log_param { base: 10 shift: 1 }"), {}, shape))
    np.testing.assert_allclose(in_torch(log, x), np.log10(1 + x), rtol=1e-5, atol=1e-6)
    bias = caffe.read(*write(tmp_path, ONE.format("Bias", ""), {"a": [np.arange(4, dtype=np.float32)]}, shape))
    np.testing.assert_array_equal(in_torch(bias, x), x + np.arange(4, dtype=np.float32)[:, None, None])
    kept = caffe.read(*write(tmp_path, ONE.format("Dropout", "dropout_param { dropout_ratio: 0.25 scale_train: false }"), {}, shape))
    np.testing.assert_array_equal(in_torch(kept, x), x * np.float32(0.75))
    cut = 'layer { name: "c" type: "Slice" bottom: "data" top: "p" top: "q" slice_param { slice_point: 1 } }'
    cut += 'layer { name: "j" type: "Concat" bottom: "q" bottom: "p" top: "j" }'
    np.testing.assert_array_equal(in_torch(caffe.read(*write(tmp_path, cut, {}, shape)), x), np.concatenate([x[:, 1:], x[:, :1]], 1))
    split = 'layer { name: "s" type: "Split" bottom: "data" top: "p" top: "q" }'
    split += 'layer { name: "e" type: "Eltwise" bottom: "p" bottom: "q" top: "e" }'
    np.testing.assert_array_equal(in_torch(caffe.read(*write(tmp_path, split, {}, shape)), x), x + x)


def test_a_scale_goes_into_the_batch_norm_only_when_nothing_else_reads_it(tmp_path: Path) -> None:
    arrays = {"n": [draw(3), positive(3), np.ones(1, np.float32)], "s": [draw(3)]}
    norm = 'layer { name: "n" type: "BatchNorm" bottom: "data" top: "n" }'
    scale = 'layer { name: "s" type: "Scale" bottom: "n" top: "s" }'
    assert [node.op for node in caffe.read(*write(tmp_path, norm + scale, arrays))] == ["BatchNormalization"]
    both = norm + scale + 'layer { name: "e" type: "Eltwise" bottom: "n" bottom: "s" top: "e" }'
    graph = caffe.read(*write(tmp_path, both, arrays))
    assert [node.op for node in graph] == ["BatchNormalization", "Mul", "Add"]
    x = draw(2, 3, 13, 11)
    mean, variance = (array[:, None, None] for array in arrays["n"][:2])
    normal = (x - mean) / np.sqrt(variance + np.float32(1e-5))
    np.testing.assert_allclose(in_torch(graph, x), normal * (1 + arrays["s"][0][:, None, None]), rtol=1e-5, atol=1e-5)


def test_both_formats_of_layers_and_numbers_give_the_same(tmp_path: Path) -> None:
    arrays = {"c": [draw(4, 3, 3, 3), draw(4)], "f": [draw(5, 4), draw(5)]}
    new = description(
        'layer { name: "c" type: "Convolution" bottom: "data" top: "c" convolution_param { num_output: 4 kernel_size: 3 } }'
        'layer { name: "r" type: "ReLU" bottom: "c" top: "c" }'
        'layer { name: "p" type: "Pooling" bottom: "c" top: "p" pooling_param { pool: AVE global_pooling: true } }'
        'layer { name: "f" type: "InnerProduct" bottom: "p" top: "f" inner_product_param { num_output: 5 } }'
        'layer { name: "l" type: "SoftmaxWithLoss" bottom: "f" bottom: "label" top: "l" include { phase: TRAIN } }'
    )
    old = (
        'name: "made" input: "data" input_dim: 2 input_dim: 3 input_dim: 13 input_dim: 11\n'
        "layers { bottom: 'data' top: 'c' name: 'c' type: CONVOLUTION blobs_lr: 1 convolution_param { num_output: 4 kernel_size: 3 } }\n"
        "layers { bottom: 'c' top: 'c' name: 'r' type: RELU } # in place\n"
        "layers { bottom: 'c' top: 'p' name: 'p' type: POOLING pooling_param < pool: AVE; global_pooling: true > }\n"
        "layers { bottom: 'p', top: 'f', name: 'f', type: INNER_PRODUCT, inner_product_param { num_output: 5 } }\n"
    )
    x, found = draw(2, 3, 13, 11), []
    for number, (text, is_old, packed) in enumerate(((new, False, True), (new, False, False), (old, True, True), (old, False, True))):
        (tmp_path / f"{number}.prototxt").write_text(text)
        (tmp_path / f"{number}.caffemodel").write_bytes(caffemodel(arrays, is_old, packed))
        found.append(in_torch(caffe.read(tmp_path / f"{number}.prototxt", tmp_path / f"{number}.caffemodel"), x))
    assert found[0].shape == (2, 5)
    assert all(np.array_equal(found[0], other) for other in found[1:])


def test_the_convention_of_a_description(tmp_path: Path) -> None:
    text = tmp_path / "train_val.prototxt"
    text.write_text(
        'layer { name: "d" type: "Data" top: "data" top: "label" include { phase: TEST }\n'
        "transform_param { crop_size: 227 mean_value: [104, 117, 123] scale: 0.5 mirror: false } data_param { batch_size: 9 } }\n"
    )
    found = caffe.convention(text)
    assert (found.height, found.width, found.order) == (227, 227, "bgr")
    assert np.allclose(np.array(found.mean) * 255, (123, 117, 104))
    # pixel / 255 over std is half the pixel
    assert np.allclose(1 / (255 * np.array(found.std)), 0.5)


def test_unknown_layers_are_all_named(tmp_path: Path) -> None:
    layers = ONE.format("Proposal", "") + 'layer { name: "z" type: "Crop" bottom: "a" top: "z" }'
    with pytest.raises(UnsupportedError, match=r"unknown layers: Proposal \(layer 'a'\), Crop \(layer 'z'\)\..*Supported are AbsVal, BNLL"):
        caffe.read(*write(tmp_path, layers, {}))


@pytest.mark.parametrize(
    ("layers", "arrays", "message"),
    [
        (ONE.format("Convolution", CONV % "kernel_size: 3"), {}, r"layer 'a' \(Convolution\) needs 2 arrays, the \.caffemodel has 0"),
        (ONE.format("Convolution", CONV % "kernel_size: 5"), ARRAYS, r"kernels of 5x5, its array is 4 x 3 x 3 x 3"),
        (ONE.format("Convolution", CONV % "kernel_size: 3 stride: 0"), ARRAYS, r"has stride \(0, 0\)"),
        (ONE.format("Convolution", "convolution_param { num_output: 7 kernel_size: 3 }"), ARRAYS, r"gives 7 maps in 1 groups"),
        (
            ONE.format("InnerProduct", "inner_product_param { num_output: 5 }"),
            {"a": [draw(5, 3), draw(5)]},
            r"inner sizes 429 and 3 differ",
        ),
        (ONE.format("Pooling", "pooling_param { kernel_size: 3 pad: 3 }"), {}, r"pools \(3, 3\) with stride \(1, 1\) and pad \(3, 3\)"),
        (ONE.format("Pooling", "pooling_param { kernel_size: 30 }"), {}, "a window of 30 does not fit"),
        ('layer { name: "b" type: "ReLU" bottom: "nowhere" top: "b" }', {}, r"layer 'b' \(ReLU\) reads 'nowhere', which no layer before"),
        (ONE.format("LRN", "lrn_param { local_size: 4 }"), {}, "allowed are odd numbers"),
        (TWO.format("Eltwise", "eltwise_param { coeff: 1 }"), {}, "1 coefficients for 2 inputs"),
    ],
)
def test_files_that_do_not_fit_together(layers: str, arrays: dict[str, list[np.ndarray]], message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        caffe.read(*write(tmp_path, layers, arrays))


@pytest.mark.real_data
@pytest.mark.extra
def test_squeezenet_is_opencvs_squeezenet(real_data: Path) -> None:
    folder = real_data / "weights/squeezenet_v1.1"
    text, binary = folder / "deploy.prototxt", folder / "squeezenet_v1.1.caffemodel"
    x = (RNG.random((3, 3, 227, 227)) * 255 - 110).astype(np.float32)
    with warnings.catch_warnings():
        found = in_torch(caffe.read(text, binary), x)
    np.testing.assert_allclose(found, in_opencv(text, binary, x), atol=1e-4)
