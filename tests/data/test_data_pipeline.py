"""Batches decoded by threads: equal to the plain decoder and resize in every bit, near to it where speed is asked for."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from convsmith import data
from convsmith.data.decode import decode
from convsmith.data.jpeg import Clock, Room, decode_box
from convsmith.data.opening import read
from convsmith.data.pack import write_pack
from convsmith.data.pipeline import Waits, stream
from convsmith.data.preprocess import resize
from convsmith.errors import DataError
from convsmith.kernels.resampling import resample


def photo(seed: int, height: int, width: int) -> Image.Image:
    """A smooth picture with some noise, as a camera's."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (height // 16, width // 16, 3), np.uint8)).resize(
        (width, height), Image.Resampling.BICUBIC
    )
    return Image.fromarray((np.asarray(coarse, float) + rng.normal(0, 3, (height, width, 1))).clip(0, 255).astype(np.uint8))


@pytest.fixture
def photos(tmp_path):
    for label in ("cat", "dog"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for number in range(9):
            name = tmp_path / "photos" / label / f"{number}.jpg"
            photo(number + 50 * (label == "dog"), 150 + 8 * number, 200).save(name, quality=88, subsampling=number % 3)
    photo(1, 150, 90).convert("L").save(tmp_path / "photos/cat/grey.jpg")
    photo(2, 150, 90).convert("CMYK").save(tmp_path / "photos/cat/print.jpg")
    photo(3, 150, 90).save(tmp_path / "photos/dog/plain.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    photo(4, 150, 90).save(tmp_path / "photos/dog/turned.jpg", exif=exif)
    return tmp_path / "photos"


def test_threads_give_the_bits_of_the_plain_loader(photos) -> None:
    dataset = data.open(photos, val=0, test=0)
    preprocess, _ = data.choose_preprocess(dataset, 64)
    split = dataset.train
    plain = np.stack([resize(split.image(i), preprocess) for i in range(len(split))])
    order = np.random.default_rng(0).permutation(len(split))
    groups = np.array_split(order, 4)
    for threads in (1, 2, 3):
        waits = Waits()
        seen = list(stream(split, groups, preprocess, threads=threads, waits=waits))
        for (x, labels, indices), group in zip(seen, groups, strict=True):
            assert (indices == group).all() and (labels == split.labels[group]).all() and (x == plain[group]).all()
        assert waits.images == len(split) and waits.waited_s > 0 and waits.clock.decode_s > 0 and waits.clock.resample_s > 0
        assert 0 < waits.share(waits.waited_s * 2) <= 0.5 and waits.share(0) == 0
    assert (data.pixels(split, preprocess, workers=2) == plain).all()
    scale_shift = data.affine(preprocess)
    for channels_last in (False, True):
        (x, _, _), *_ = stream(split, [order], preprocess, normalise=True, channels_last=channels_last)
        expected = plain[order].astype(np.float32) * scale_shift[0] + scale_shift[1]
        assert (x == (expected if channels_last else expected.transpose(0, 3, 1, 2))).all()


@pytest.mark.parametrize("mode", ["fill", "half_crop"])
def test_black_beside_the_images_is_the_same_in_every_reader(photos, tmp_path, mode) -> None:
    write_pack(read(photos), tmp_path / "photos.pack")
    dataset, packed = data.open(photos, val=0, test=0), data.open(tmp_path / "photos.pack", val=0, test=0)
    preprocess, _ = data.choose_preprocess(dataset, (64, 48), mode)
    assert preprocess.resize == mode
    plain = np.stack([resize(dataset.train.image(i), preprocess) for i in range(len(dataset.train))])
    assert not plain[0, 0].any(), "the first line of a wide photo is black"
    for quick in (False, True):  # at reduced scale the black would have to be reduced too, so these are decoded whole
        (x, _, _), *_ = stream(dataset.train, [np.arange(len(plain))], preprocess, quick=quick, threads=2)
        assert np.abs(x.astype(int) - plain).max() <= (12 if quick else 0)
    (x, _, _), *_ = stream(packed.train, [np.arange(len(plain))], preprocess)
    assert (x == plain).all()
    assert (data.pixels(dataset.train, preprocess) == plain).all()


def test_a_pack_streams_the_same_bits(photos, tmp_path) -> None:
    write_pack(read(photos), tmp_path / "photos.pack")
    files, packed = data.open(photos, val=0, test=0), data.open(tmp_path / "photos.pack", val=0, test=0)
    preprocess, _ = data.choose_preprocess(files, 48)
    groups = [np.arange(len(files.train))]
    (ours, _, _), (theirs, _, _) = next(stream(packed.train, groups, preprocess)), next(stream(files.train, groups, preprocess))
    assert (ours == theirs).all()


def jpeg(image: Image.Image, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", **options)
    return buffer.getvalue()


@pytest.mark.parametrize("subsampling", [0, 1, 2])
def test_without_haste_the_pixels_are_those_of_the_careful_decoder(subsampling: int) -> None:
    for seed, (height, width) in enumerate([(61, 83), (160, 200), (16, 16), (1, 9), (33, 17)]):
        raw = jpeg(photo(seed, max(height, 16), max(width, 16)).crop((0, 0, width, height)), quality=80, subsampling=subsampling)
        pixels, box = decode_box(raw, "x", 10**8, (0, 0, height, width), (8, 8), quick=False, clock=Clock())
        assert box == (0, 0, height, width) and (pixels == decode(raw, "x")).all()
    progressive = jpeg(photo(9, 64, 64), progressive=True, subsampling=subsampling)
    pixels, _ = decode_box(progressive, "x", 10**8, (0, 0, 64, 64), (8, 8), quick=False, clock=Clock())
    assert (pixels == np.asarray(Image.open(io.BytesIO(progressive)))).all()


def test_the_orientation_is_read_wherever_it_stands() -> None:
    exif, image = Image.Exif(), photo(3, 48, 80)
    exif[0x0112] = 6
    plain, turned = jpeg(image), jpeg(image, exif=exif)
    begin = turned.index(b"\xff\xe1")
    mark = turned[begin : begin + 2 + int.from_bytes(turned[begin + 2 : begin + 4])]
    comments = (b"\xff\xfe" + (60_002).to_bytes(2) + bytes(60_000)) * 3
    late = plain[:2] + comments + mark + plain[2:]
    filled = plain[:2] + b"\xff\xff" + plain[2:]
    for raw, shape in ((plain, (48, 80, 3)), (turned, (80, 48, 3)), (late, (80, 48, 3)), (filled, (48, 80, 3))):
        pixels, _ = decode_box(raw, "x", 10**8, (0, 0, 16, 16), (8, 8), quick=False, clock=Clock())
        assert pixels.shape == shape and (pixels == decode(raw, "x")).all()


def test_pictures_that_lie_in_the_room_are_those_outside_it() -> None:
    room = Room()
    for number, (height, width) in enumerate([(64, 48), (160, 96), (32, 32)]):
        raw = jpeg(photo(number, height, width))
        arguments = (raw, "x", 10**8, (0, 0, height, width), (8, 8), bool(number % 2), Clock())
        inside, outside = decode_box(*arguments, room)[0], decode_box(*arguments)[0]
        assert (inside == outside).all() and np.shares_memory(inside, np.frombuffer(room.memory, np.uint8))
        assert not np.shares_memory(outside, np.frombuffer(room.memory, np.uint8))


def test_in_haste_a_large_box_is_decoded_at_reduced_scale_within_tolerance() -> None:
    image = photo(0, 640, 800)
    raw = jpeg(image, quality=92)
    for box, factor in (((0, 0, 640, 800), 4), ((100, 200, 420, 520), 2), ((10, 20, 150, 160), 1)):
        pixels, reduced = decode_box(raw, "x", 10**8, box, (140, 140), quick=True, clock=Clock())
        assert pixels.shape[:2] == (640 // factor, 800 // factor)
        assert reduced == tuple(side // factor for side in box)
        careful = np.empty((1, 140, 140, 3), np.uint8)
        hasty = np.empty_like(careful)
        flag = np.zeros(1, bool)
        resample([np.asarray(Image.open(io.BytesIO(raw)))], np.int32([box]), flag, careful)
        resample([pixels], np.int32([reduced]), flag, hasty)
        # reduced, both average the same pixels with another filter; at full size the faster transform and upsampling show, here with
        # 3.3 levels because every colour differs from its neighbour (photos: 1.0)
        assert np.abs(careful.astype(int) - hasty).mean() < (2.0 if factor > 1 else 4.0)


def test_damaged_files_are_told_by_name(photos) -> None:
    dataset = data.open(photos, val=0, test=0)
    preprocess, _ = data.choose_preprocess(dataset, 64)
    broken = photos / "cat" / "3.jpg"
    broken.write_bytes(broken.read_bytes()[:2000])
    with pytest.raises(DataError, match=r"'cat/3.jpg' cannot be read: the JPEG pixel data ends early"):
        list(stream(dataset.train, [np.arange(len(dataset.train))], preprocess))
