"""Packs and shards give back the images, labels, names and parts of their source; damage is told; nothing of the source changes."""

from __future__ import annotations

import hashlib
import io
import tarfile

import numpy as np
import pytest
from PIL import Image

from convsmith import data
from convsmith.data.opening import read
from convsmith.data.pack import HEADER, write_pack
from convsmith.data.webdataset import read_shards, write_shards
from convsmith.errors import DataError, UsageError


@pytest.fixture
def photos(class_folder, picture):
    root = class_folder({"cat": 6, "dog": 5}, under="train", height=40, width=52)
    class_folder({"cat": 2, "dog": 2}, under="test", height=30, width=24, seed=500)
    Image.fromarray(picture(99, 80, 60)).save(root / "train" / "cat" / "photo.jpg", quality=95)
    Image.fromarray(picture(98, 33, 35, 1)[:, :, 0]).save(root / "train" / "dog" / "grey.png")
    return root


def state(root) -> str:
    return hashlib.sha256(b"".join(str(p).encode() + p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file())).hexdigest()


def contents(dataset):
    return {
        split.name(i): (part, int(split.labels[i]), split.image(i)) for part, split in dataset.splits.items() for i in range(len(split))
    }


def test_a_pack_of_pixels_is_the_source(photos, tmp_path) -> None:
    before = state(photos)
    size = write_pack(read(photos), tmp_path / "photos.pack")
    assert state(photos) == before and size == (tmp_path / "photos.pack").stat().st_size
    source, packed = data.open(photos), data.open(tmp_path / "photos.pack")
    assert (packed.name, packed.classes, packed.channels) == (source.name, source.classes, source.channels)
    ours, theirs = contents(packed), contents(source)
    assert list(ours) == list(theirs)
    for name, (part, label, pixels) in theirs.items():
        assert ours[name][:2] == (part, label) and (ours[name][2] == pixels).all()
    assert not ours["train/cat/000.png"][2].flags.writeable
    preprocess, _ = data.choose_preprocess(source, 32)
    assert (data.pixels(packed.train, preprocess) == data.pixels(source.train, preprocess)).all()
    assert (data.pixels(packed.train, preprocess, workers=2) == data.pixels(source.train, preprocess)).all()


def test_images_are_scaled_down_and_small_ones_kept(photos, tmp_path) -> None:
    write_pack(read(photos), tmp_path / "small.pack", short_side=32)
    sizes = {name: pixels.shape[:2] for name, (_, _, pixels) in contents(data.open(tmp_path / "small.pack")).items()}
    assert sizes["train/cat/000.png"] == (32, 42) and sizes["train/cat/photo.jpg"] == (43, 32) and sizes["test/cat/000.png"] == (30, 24)
    whole = data.open(photos).splits["train"]
    row = next(i for i in range(len(whole)) if whole.name(i) == "train/cat/photo.jpg")
    expected = Image.fromarray(whole.image(row)).resize((32, 80), Image.Resampling.BILINEAR).resize((32, 43), Image.Resampling.BILINEAR)
    assert (contents(data.open(tmp_path / "small.pack"))["train/cat/photo.jpg"][2] == np.asarray(expected)).all()


def test_a_jpeg_that_is_small_enough_is_copied_byte_for_byte(photos, tmp_path) -> None:
    write_pack(read(photos), tmp_path / "j.pack", encoding="jpeg", quality=98)
    raw = (photos / "train/cat/photo.jpg").read_bytes()
    assert raw in (tmp_path / "j.pack").read_bytes()
    ours, theirs = contents(data.open(tmp_path / "j.pack")), contents(data.open(photos))
    assert {name: value[:2] for name, value in ours.items()} == {name: value[:2] for name, value in theirs.items()}
    assert (ours["train/cat/photo.jpg"][2] == theirs["train/cat/photo.jpg"][2]).all()


def test_arrays_are_packed_too_and_give_the_same_parts(tmp_path) -> None:
    write_pack(read("digits"), tmp_path / "digits.pack")
    packed, source = data.open(tmp_path / "digits.pack", seed=3), data.open("digits", seed=3)
    for part in source.splits:
        ours, theirs = packed.splits[part], source.splits[part]
        assert (ours.labels == theirs.labels).all()
        assert all((ours.image(i) == theirs.image(i)).all() for i in range(0, len(ours), 50))


def test_damage_is_told(photos, tmp_path) -> None:
    path = tmp_path / "p.pack"
    write_pack(read(photos), path)
    raw = path.read_bytes()
    with pytest.raises(UsageError, match="exists already"):
        write_pack(read(photos), path)
    assert path.read_bytes() == raw and not list(tmp_path.glob("*.part"))

    def damaged(name: str, content: bytes):
        (tmp_path / name).write_bytes(content)
        return tmp_path / name

    with pytest.raises(DataError, match=r"is cut off: it has .* bytes of .*; pack the images again"):
        data.open(damaged("short.pack", raw[:-10]))
    with pytest.raises(DataError, match="cut off in its header"):
        data.open(damaged("head.pack", raw[:40]))
    with pytest.raises(DataError, match="never finished"):
        data.open(damaged("open.pack", raw[:8] + bytes(56) + raw[64:]))
    place = HEADER.unpack(raw[:64])[1] + 100
    with pytest.raises(DataError, match=r"damaged index \(another checksum\)"):
        data.open(damaged("index.pack", raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :]))
    flipped = data.open(damaged("image.pack", raw[:70] + bytes([raw[70] ^ 1]) + raw[71:]), val=0, trainable=False)
    with pytest.raises(DataError, match="the image at byte 64 has another checksum"):
        [split.image(i) for split in flipped.splits.values() for i in range(len(split))]


def test_shards_are_read_back(photos, tmp_path) -> None:
    before = state(photos)
    shards = write_shards(read(photos), tmp_path / "shards", per_shard=5, quality=95)
    assert state(photos) == before
    assert [path.name for path in shards] == ["train-000000.tar", "train-000001.tar", "train-000002.tar", "test-000000.tar"]
    dataset = data.open(tmp_path / "shards")
    source = data.open(photos)
    assert dataset.classes == source.classes
    assert {part: len(split) for part, split in dataset.splits.items()} == {part: len(split) for part, split in source.splits.items()}
    assert (np.bincount(dataset.test.labels) == np.bincount(source.test.labels)).all()
    with pytest.raises(UsageError, match="not empty"):
        write_shards(read(photos), tmp_path / "shards")
    one = data.open(shards[0], val=0, test=0, trainable=False)
    assert len(one.train) == 5 and one.classes == source.classes


def shard(path, members) -> None:
    with tarfile.open(path, "w") as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


def test_foreign_shards_and_their_faults(picture, tmp_path) -> None:
    buffer = io.BytesIO()
    Image.fromarray(picture(1, 20, 20)).save(buffer, "PNG")
    png = buffer.getvalue()
    shard(
        tmp_path / "a.tar", [("x/0.png", png), ("x/0.json", b'{"label": "cat"}'), ("x/1.cls", b"dog"), ("x/1.png", png), ("x/2.png", png)]
    )
    listing = read_shards([tmp_path / "a.tar"])
    assert [(entry.name, entry.label) for entry in listing.entries] == [("a.tar/x/0.png", "cat"), ("a.tar/x/1.png", "dog")]
    assert [(p.name, p.kind, p.reason) for p in listing.problems] == [("a.tar/x/2.png", "row", "the sample has no label (.cls or .json)")]
    (tmp_path / "b.tar").write_bytes((tmp_path / "a.tar").read_bytes()[:700])
    with pytest.raises(DataError, match=r"b\.tar' (is cut off|is a damaged)"):
        read_shards([tmp_path / "b.tar"])
    shard(tmp_path / "c.tar", [("0.cls", b"0")])
    with pytest.raises(DataError, match="no sample with a picture and a label"):
        data.open(tmp_path / "c.tar")
    (tmp_path / "classes.txt").write_text("cat\n")
    shard(tmp_path / "d.tar", [("0.png", png), ("0.cls", b"7")])
    with pytest.raises(DataError, match=r"label 7, but classes\.txt names 1 classes"):
        data.open(tmp_path / "d.tar")
