"""Pretrained sources: what a file is, how it wants its input, and that it behaves as its publisher says."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from convsmith import data, models
from convsmith.errors import DataError, UnsupportedError, UsageError
from convsmith.interop import caffe, keras, pretrained
from convsmith.interop.torch_module import GraphModule
from convsmith.interop.transplant import Layer, layers_of, transplant
from convsmith.models.convention import CAFFE, CONVENTIONS, TENSORFLOW, TORCHVISION, Convention, find


def cifar(real_data: Path) -> tuple[np.ndarray, np.ndarray]:
    parts = [real_data / "data/cifar10/original-4000" / name for name in ("data_batch_1.bin", "test_batch.bin")]
    records = np.concatenate([np.fromfile(part, np.uint8) for part in parts]).reshape(-1, 3073)
    return records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), records[:, 0].astype(np.int64)


def samples(real_data: Path) -> tuple[list[np.ndarray], np.ndarray]:
    folder = real_data / "data/imagenet-samples"
    with (folder / "labels.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    return [data.read_image(folder / row["file"]) for row in rows], np.array([int(row["class_index"]) for row in rows])


@pytest.mark.real_data
@pytest.mark.slow
def test_squeezenet_from_caffe_names_the_samples(real_data: Path) -> None:
    source = pretrained.find(real_data / "weights/squeezenet_v1.1/squeezenet_v1.1.caffemodel")
    assert (source.model, source.classes, source.convention) == ("squeezenet1_1", 1000, CAFFE.resized(227, 227))
    # 62.4 % of the 1,000 images that these 167 are taken from
    assert 0.61 <= pretrained.accuracy(source, *samples(real_data)) <= 0.63


@pytest.mark.real_data
@pytest.mark.slow
def test_the_module_computes_what_the_graph_computes(real_data: Path) -> None:
    folder = real_data / "weights/squeezenet_v1.1"
    graph = GraphModule(caffe.read(folder / "deploy.prototxt", folder / "squeezenet_v1.1.caffemodel"))
    network = pretrained.load(pretrained.find(folder / "squeezenet_v1.1.caffemodel")).eval()
    x_rgb = torch.from_numpy(np.random.default_rng(0).random((2, 3, 227, 227), np.float32)) * 255 - 110
    with torch.inference_mode():
        np.testing.assert_allclose(network(x_rgb).softmax(1), graph(x_rgb.flip(1)).flatten(1), atol=1e-6)


@pytest.mark.real_data
@pytest.mark.extra
def test_the_keras_file_holds_the_arrays_of_the_caffe_file(real_data: Path) -> None:
    pytest.importorskip("h5py")
    folder = real_data / "weights/squeezenet_v1.1"
    theirs = layers_of(caffe.read(folder / "deploy.prototxt", folder / "squeezenet_v1.1.caffemodel"))
    ours = keras.read(folder / "squeezenet_v1.1_notop_keras.h5")
    assert len(ours) == len(theirs) - 1 == 25
    for one, other in zip(ours, theirs, strict=False):
        assert all(np.array_equal(one.arrays[part], other.arrays[part]) for part in ("weight", "bias"))
    source = pretrained.find(folder / "squeezenet_v1.1_notop_keras.h5")
    assert (source.model, source.classes, source.convention.order) == ("squeezenet1_1", 0, "bgr")
    assert pretrained.load(source, classes=7)(torch.zeros(1, 3, 64, 64)).shape == (1, 7)


@pytest.mark.real_data
@pytest.mark.extra
def test_resnet8_of_keras_knows_cifar10(real_data: Path) -> None:
    pytest.importorskip("h5py")
    source = pretrained.find(real_data / "weights/resnet8_cifar10_keras/pretrainedResnet.h5")
    assert (source.model, source.classes, source.convention.name) == ("mlperf_resnet8", 10, "keras")
    # 93.0 % of these training images, as measured with Keras's own weights in the publisher's description
    assert pretrained.accuracy(source, *cifar(real_data)) == pytest.approx(0.930, abs=0.001)


@pytest.mark.real_data
def test_resnet20_of_torch_knows_cifar10(real_data: Path) -> None:
    source = pretrained.find(real_data / "weights/resnet20_cifar10/resnet20-12fca82f.th")
    assert (source.model, source.convention.height, source.settled) == ("resnet20", 32, True)
    images, labels = cifar(real_data)
    # 99.8 % of all 4,000 training images
    assert pretrained.accuracy(source, images[:1000], labels[:1000]) > 0.99


@pytest.mark.real_data
@pytest.mark.slow
def test_the_padding_of_mobilenet_is_found_by_looking_at_images(real_data: Path) -> None:
    source = pretrained.find(real_data / "weights/mobilenet_v2/mobilenet_v2_1.0_224.safetensors")
    assert (source.model, source.settled) == ("mobilenet_v2", False)
    images, labels = samples(real_data)
    source = pretrained.settle(source, images[:24])
    assert (source.convention, source.options) == (TENSORFLOW, {"same_padding": True})
    waste = data.open(real_data / "data/trashnet").train  # unlike anything the source was trained on
    again = pretrained.settle(pretrained.find(source.path), [waste.image(place) for place in range(0, len(waste), 8)])
    assert again.convention == TENSORFLOW
    assert "on 24 images its norms meet what they were trained on more nearly so" in source.reasons[-1]
    # 85.5 % with the crop of the literature, which these large crops exceed
    assert pretrained.accuracy(source, images, labels) > 0.84


def test_architectures_are_told_by_their_arrays(tmp_path: Path) -> None:
    for name in ("resnet18", "mobilenet_v2", "squeezenet1_0", "resnet32", "mlperf_resnet8"):
        network = models.load(name, classes=3)
        save_file(network.state_dict(), tmp_path / "a.safetensors")
        source = pretrained.find(tmp_path / "a.safetensors")
        assert (source.model, source.classes) == (name, 3)
        loaded = pretrained.load(source, classes=3).state_dict()
        assert all(torch.equal(value, loaded[key]) for key, value in network.state_dict().items())
    save_file({"x": torch.zeros(2)}, tmp_path / "b.safetensors")
    with pytest.raises(DataError, match=r"are those of no architecture of the zoo; name it with model="):
        pretrained.find(tmp_path / "b.safetensors")
    with pytest.raises(UsageError, match="is no architecture of the zoo"):
        pretrained.find(tmp_path / "b.safetensors", model="mine")


def test_a_side_file_says_the_convention(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_file(models.load("mobilenet_v2").state_dict(), path)
    assert pretrained.find(path).convention == TORCHVISION
    assert pretrained.find(path, convention="tensorflow").options == {"same_padding": True}
    side = tmp_path / "w.safetensors.convention.json"
    side.write_text(json.dumps({"mean": [0.1, 0.2, 0.3], "std": [1, 1, 2], "padding": "same", "height": 96, "width": 96}))
    source = pretrained.find(path)
    assert source.convention == Convention("side file", (0.1, 0.2, 0.3), (1.0, 1.0, 2.0), "rgb", "same", 96, 96)
    assert source.settled and source.options == {"same_padding": True}
    side.write_text('{"mean": [0.1], "std": [1, 1, 1]}')
    with pytest.raises(DataError, match=r"does not describe an input convention: mean is \[0\.1\]; give three numbers"):
        pretrained.find(path)
    with pytest.raises(UsageError, match=r"no input convention 'cafe'; there are torchvision, .* Did you mean 'caffe'\?"):
        pretrained.find(path, convention="cafe")


def test_preprocessing_and_turned_channels_give_what_the_source_would_read() -> None:
    """A BGR network on BGR pixels less the mean equals its turned copy on what `Preprocess` makes of RGB pixels."""
    torch.manual_seed(0)
    original = nn.Conv2d(3, 4, 3)
    turned = nn.Sequential(nn.Conv2d(3, 4, 3))
    arrays = {"weight": original.weight.detach().numpy(), "bias": original.bias.detach().numpy()}
    transplant(nn.Sequential(turned), [Layer("c", "convolution", arrays)], order="bgr")
    rgb = np.random.default_rng(0).integers(0, 256, (2, 9, 9, 3), np.uint8)
    bgr = torch.from_numpy(rgb[..., ::-1].astype(np.float32) - np.array([104, 117, 123], np.float32)).permute(0, 3, 1, 2)
    with torch.inference_mode():
        expected = original(bgr)
        found = turned(torch.from_numpy(data.normalise(rgb, CAFFE.preprocess(9))))
    # (pixel / 255 - mean / 255) * 255: a few float32 roundings of numbers up to 255
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-3)


def test_a_norm_of_another_epsilon_computes_the_same() -> None:
    rng = np.random.default_rng(1)
    arrays = {name: rng.random(5).astype(np.float32) + 0.1 for name in ("weight", "bias", "running_mean", "running_var")}
    network = nn.Sequential(nn.Conv2d(3, 5, 1), nn.BatchNorm2d(5)).eval()
    layers = [Layer("c", "convolution", {"weight": np.ones((5, 3, 1, 1)), "bias": np.zeros(5)}), Layer("n", "norm", arrays, 1e-3)]
    transplant(network, layers)
    x = torch.rand(2, 3, 4, 4)
    mean, variance = (arrays[name][:, None, None].astype(np.float64) for name in ("running_mean", "running_var"))
    normal = (x.sum(1, keepdim=True).numpy() - mean) / np.sqrt(variance + 1e-3)
    expected = normal * arrays["weight"][:, None, None] + arrays["bias"][:, None, None]
    np.testing.assert_allclose(network(x).detach(), expected, rtol=1e-4, atol=1e-5)
    small = {**arrays, "running_var": np.zeros(5, np.float32)}
    with pytest.raises(DataError, match=r"0 has epsilon 1e-05, the file 1e-06: the difference is more than a variance"):
        transplant(nn.Sequential(nn.BatchNorm2d(5), nn.Conv2d(3, 5, 1)), [Layer("n", "norm", small, 1e-6), layers[0]])


def test_layers_that_do_not_fit_are_named() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Linear(4, 2))
    wrong = Layer("conv9", "convolution", {"weight": np.zeros((4, 3, 5, 5), np.float32), "bias": np.zeros(4, np.float32)})
    with pytest.raises(
        DataError, match=r"layer 'conv9' of the file has weight 4 x 3 x 5 x 5, bias 4; 0 of the network has weight 4 x 3 x 3"
    ):
        transplant(network, [wrong])
    with pytest.raises(DataError, match="the file has 3 layers of the kind convolution, the network 1"):
        transplant(network, [wrong] * 3)


@pytest.mark.extra
def test_keras_kernels_are_turned(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    rng = np.random.default_rng(2)
    kernel, depth, dense = (rng.random(shape).astype(np.float32) for shape in ((3, 2, 4, 5), (3, 3, 4, 2), (6, 7)))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.attrs["layer_names"] = [b"conv", b"depth", b"norm", b"relu", b"dense"]
        file.attrs["model_config"] = json.dumps(
            {"config": {"layers": [{"class_name": "BatchNormalization", "config": {"name": "norm", "epsilon": 0.01}}]}}
        )
        for name in ("conv", "depth", "norm", "relu", "dense"):
            file.create_group(name)
        file["conv/conv/kernel:0"], file["conv/conv/bias:0"] = kernel, np.arange(5, dtype=np.float32)
        file["depth/depth/depthwise_kernel:0"] = depth
        file["norm/norm/beta:0"], file["norm/norm/moving_mean:0"] = np.ones(4, np.float32), np.ones(4, np.float32)
        file["norm/norm/moving_variance:0"] = np.ones(4, np.float32)
        file["dense/dense/kernel:0"] = dense
    conv, depthwise, norm, product = keras.read(tmp_path / "a.h5")
    assert conv.arrays["weight"].shape == (5, 4, 3, 2) and conv.arrays["weight"][1, 2, 0, 1] == kernel[0, 1, 2, 1]
    assert depthwise.arrays["weight"].shape == (8, 1, 3, 3) and depthwise.arrays["weight"][2 * 3 + 1, 0, 2, 0] == depth[2, 0, 3, 1]
    assert norm.epsilon == 0.01 and norm.arrays["weight"].tolist() == [1, 1, 1, 1]
    assert np.array_equal(product.arrays["weight"], dense.T)
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file.attrs["layer_names"] = [b"lstm"]
        file["lstm/kernel:0"], file["lstm/recurrent_kernel:0"] = dense, dense
    with pytest.raises(
        UnsupportedError, match=r"layer 'lstm' holds .*; supported are convolution, depthwise convolution, dense and batch norm"
    ):
        keras.read(tmp_path / "b.h5")
    whole = (tmp_path / "a.h5").read_bytes()
    for broken in (b"", b"no HDF5", whole[: len(whole) // 2]):
        (tmp_path / "c.h5").write_bytes(broken)
        with pytest.raises(DataError, match="is not a whole Keras weight file"):
            keras.read(tmp_path / "c.h5")


def test_conventions_are_found_by_name() -> None:
    assert all(find(name) is convention for name, convention in CONVENTIONS.items())
    assert Convention.from_dict(json.loads(json.dumps(TENSORFLOW.to_dict()))) == TENSORFLOW
