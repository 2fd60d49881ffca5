"""What a server answers: the same as the file in Python, over its own path and KServe's."""

from __future__ import annotations

import base64
import io
import json
import struct
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from running import ask, png, raw, running
from target_nets import images

from convsmith import __version__, compiler, targets
from convsmith.data import read_image
from convsmith.serving import Server

INFER = "/v2/models/net/infer"


def scores_of(program: Path, pixels: list[np.ndarray]) -> np.ndarray:
    return targets.predict(compiler.open_session(program, threads=1), pixels, batch=1)[0]


def infer(server: Server, inputs: dict, body: bytes = b"", **more: object) -> tuple[int, dict | bytes, dict[str, str]]:
    text = json.dumps({"inputs": [inputs], **more}).encode()
    headers = {"Inference-Header-Content-Length": str(len(text))} if body else {}
    return ask(server, "POST", INFER, text + body, headers)


def outputs(found: dict) -> dict[str, dict]:
    return {item["name"]: item for item in found["outputs"]}


def test_an_image_gets_the_classes_of_the_file(server: Server, program: Path, tmp_path: Path) -> None:
    pixels = images(24)
    expected = scores_of(program, pixels)
    labels = np.array(["ant", "bee", "cat", "dog"])
    for image, scores in zip(pixels, expected, strict=True):
        status, found, _ = ask(server, "POST", "/predict", png(image))
        order = np.argsort(-scores, kind="stable")
        assert status == 200 and [item["class"] for item in found["best"]] == list(labels[order])
        # rounded to 6 digits; float32 sums of a batch of another size
        assert [item["score"] for item in found["best"]] == pytest.approx(scores[order].tolist(), abs=2e-6)
        assert found["sure"] == bool(scores.max() >= 0.6) and found["class"] == (labels[order[0]] if found["sure"] else None)
    assert {bool(row.max() >= 0.6) for row in expected} == {True, False}
    file = io.BytesIO()
    Image.fromarray(pixels[3].repeat(9, 0).repeat(9, 1)).save(file, "JPEG")
    (tmp_path / "x.jpg").write_bytes(file.getvalue())
    status, found, _ = ask(server, "POST", "/predict", file.getvalue())
    by_file = scores_of(program, [read_image(tmp_path / "x.jpg")])[0]
    assert status == 200 and found["best"][0]["score"] == pytest.approx(float(by_file.max()), abs=2e-6)


def test_many_at_once_are_batched_and_none_gets_the_answer_of_another(server: Server, program: Path) -> None:
    pixels = images(120, seed=5)
    expected = scores_of(program, pixels)
    with ThreadPoolExecutor(24) as pool:
        answers = list(pool.map(lambda image: ask(server, "POST", "/predict", png(image)), pixels))
    found = np.array([max(item["score"] for item in answer[1]["best"]) for answer in answers])
    np.testing.assert_allclose(found, expected.max(1), rtol=0, atol=2e-6)
    assert sum(server.metrics.batches.counts[1:]) > 0  # some batch had more than one


def test_kserve_takes_pixels_as_json_and_binary(server: Server, program: Path) -> None:
    x = np.random.default_rng(0).integers(0, 256, (3, 20, 15, 3), np.uint8)
    expected = scores_of(program, list(x))
    given = {"name": "image", "shape": list(x.shape), "datatype": "UINT8"}
    status, found, _ = infer(server, given | {"data": x.tolist()}, id="a7")
    assert status == 200 and found["model_name"] == "net" and found["id"] == "a7"
    by_name = outputs(found)
    assert set(by_name) == {"scores", "label", "sure"} and by_name["scores"]["shape"] == [3, 4]
    np.testing.assert_allclose(np.reshape(by_name["scores"]["data"], (3, 4)), expected, rtol=0, atol=2e-6)
    assert by_name["label"]["data"] == [["ant", "bee", "cat", "dog"][k] for k in expected.argmax(1)]
    binary = given | {"parameters": {"binary_data_size": x.nbytes}}
    asked = [{"name": "logits", "parameters": {"binary_data": True}}, {"name": "label", "parameters": {"binary_data": True}}]
    status, content, headers = infer(server, binary, x.tobytes(), outputs=asked)
    size = int(headers["Inference-Header-Content-Length"])
    assert status == 200 and headers["Content-Type"] == "application/octet-stream"
    described = outputs(json.loads(content[:size]))
    length = described["logits"]["parameters"]["binary_data_size"]
    logits = np.frombuffer(content[size : size + length], np.float32).reshape(3, 4)
    powers = np.exp(logits / 5.0)
    np.testing.assert_allclose(powers / powers.sum(1, keepdims=True), expected, rtol=0, atol=2e-6)
    (first,) = struct.unpack_from("<I", content, size + length)
    assert content[size + length + 4 : size + length + 4 + first].decode() == by_name["label"]["data"][0]


def test_kserve_takes_encoded_images(server: Server, program: Path) -> None:
    pixels = images(4, seed=3)
    files = [png(image) for image in pixels]
    expected = scores_of(program, pixels)
    given = {"name": "encoded", "shape": [4], "datatype": "BYTES"}
    texts = [base64.b64encode(file).decode() for file in files]
    by_json = infer(server, given | {"data": texts})[1]
    tail = b"".join(struct.pack("<I", len(file)) + file for file in files)
    by_bytes = infer(server, given | {"parameters": {"binary_data_size": len(tail)}}, tail)[1]
    assert outputs(by_json) == outputs(by_bytes)
    np.testing.assert_allclose(np.reshape(outputs(by_json)["scores"]["data"], (4, 4)), expected, rtol=0, atol=2e-6)


def test_pages(server: Server) -> None:
    assert ask(server, "GET", "/v2/health/live")[:2] == (200, {"live": True})
    assert ask(server, "GET", "/v2/health/ready")[:2] == ask(server, "GET", "/v2/models/net/ready")[:2] == (200, {"ready": True})
    assert ask(server, "GET", "/v2")[1] == {"name": "convsmith", "version": __version__, "extensions": ["binary_tensor_data"]}
    found = ask(server, "GET", "/v2/models/net")[1]
    assert found == ask(server, "GET", "/v2/models/net/versions/1")[1]
    assert found["inputs"][0] == {"name": "image", "datatype": "UINT8", "shape": [-1, -1, -1, 3]}
    assert found["outputs"][0] == {"name": "scores", "datatype": "FP32", "shape": [-1, 4]}
    status, text, headers = ask(server, "GET", "/metrics")
    assert status == 200 and headers["Content-Type"] == "text/plain; version=0.0.4"
    lines = text.decode().splitlines()
    assert "convsmith_workers_ready 2" in lines and any(line.startswith('convsmith_requests_total{code="200"} ') for line in lines)
    assert ask(server, "GET", "/v2/models/other")[:2] == (404, {"error": "there is nothing at this path; the model is 'net', see /"})
    status, found, headers = ask(server, "GET", "/predict")
    assert status == 405 and headers["Allow"] == "POST" and ask(server, "POST", "/metrics", b"x")[0] == 405
    assert ask(server, "HEAD", "/health")[:2] == (200, b"")


def test_requests_sent_together_are_answered_in_order(server: Server) -> None:
    one = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
    image = png(images(1)[0])
    post = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: " + str(len(image)).encode() + b"\r\n\r\n" + image
    found = raw(server, one + post + one + post)
    bodies = [part.split(b"\r\n")[0] for part in found.split(b"HTTP/1.1 ")[1:]]
    assert bodies == [b"200 OK"] * 4
    assert found.index(b"live") < found.index(b"best") < found.rindex(b"live") < found.rindex(b"best")


def test_an_onnx_file_is_served_by_its_own_runtime(tmp_path: Path, program: Path) -> None:
    from target_nets import small_graph

    session = compiler.open_session(program)
    targets.export(small_graph(), session.preprocess, session.labels, tmp_path / "net.onnx", confidence=session.confidence)
    with running(tmp_path / "net.onnx") as server:
        pixels = images(6)
        found = [ask(server, "POST", "/predict", png(image))[1]["best"][0]["score"] for image in pixels]
    np.testing.assert_allclose(found, scores_of(program, pixels).max(1), rtol=0, atol=2e-6)
