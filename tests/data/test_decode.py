from __future__ import annotations

import io
import struct
import threading
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convsmith import data
from convsmith.data.decode import UPRIGHT, decode, digest, inspect, outline, plain
from convsmith.errors import DataError


def encoded(image: Image.Image, form: str, **options: object) -> bytes:
    with io.BytesIO() as file:
        image.save(file, form, **options)
        return file.getvalue()


@pytest.mark.parametrize(("form", "extension"), [("PNG", ".png"), ("BMP", ".bmp"), ("TIFF", ".tif"), ("PPM", ".ppm")])
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (7, 1), (13, 17)])
def test_lossless_formats_return_the_pixels(picture, tmp_path: Path, form, extension, size) -> None:
    pixels = picture(0, *size)
    path = tmp_path / f"image{extension}"
    Image.fromarray(pixels).save(path, form)
    np.testing.assert_array_equal(data.read_image(path), pixels)


def test_lossless_webp_returns_the_pixels(picture, tmp_path: Path) -> None:
    pixels = picture(1, 13, 17)
    Image.fromarray(pixels).save(tmp_path / "image.webp", lossless=True)
    np.testing.assert_array_equal(data.read_image(tmp_path / "image.webp"), pixels)


def test_jpeg_is_what_pillow_decodes(tmp_path: Path) -> None:
    ramp = np.tile(np.arange(64, dtype=np.uint8)[:, None, None] * 4, (1, 48, 3))
    Image.fromarray(ramp).save(tmp_path / "ramp.jpg", quality=90)
    found = data.read_image(tmp_path / "ramp.jpg")
    assert found.shape == (64, 48, 3)
    # a smooth ramp at quality 90 loses at most a few levels
    assert np.abs(found.astype(int) - ramp).max() <= 4


def test_grey_stays_one_channel(picture, tmp_path: Path) -> None:
    pixels = picture(2, 6, 5, 1)
    Image.fromarray(pixels[:, :, 0]).save(tmp_path / "grey.png")
    np.testing.assert_array_equal(data.read_image(tmp_path / "grey.png"), pixels)


def test_one_bit_becomes_black_and_white() -> None:
    image = Image.fromarray(np.array([[0, 255], [255, 0]], np.uint8)).convert("1")
    np.testing.assert_array_equal(decode(encoded(image, "PNG"), "x.png")[:, :, 0], [[0, 255], [255, 0]])


def test_palette_is_looked_up_and_a_grey_palette_gives_one_channel() -> None:
    image = Image.fromarray(np.array([[0, 1], [1, 0]], np.uint8)).convert("P")
    image.putpalette([10, 20, 30, 200, 100, 50] + [0] * 762)
    np.testing.assert_array_equal(decode(encoded(image, "PNG"), "x.png")[0], [[10, 20, 30], [200, 100, 50]])
    image.putpalette([10, 10, 10, 200, 200, 200] + [0] * 762)
    np.testing.assert_array_equal(decode(encoded(image, "PNG"), "x.png")[:, :, 0], [[10, 200], [200, 10]])


def test_alpha_is_laid_on_white() -> None:
    rgba = np.array([[[0, 0, 0, 0], [0, 0, 0, 255], [100, 50, 0, 128]]], np.uint8)
    found = decode(encoded(Image.fromarray(rgba), "PNG"), "x.png")
    exact = rgba[..., :3] * (rgba[..., 3:] / 255) + 255 * (1 - rgba[..., 3:] / 255)
    # Pillow rounds the blend to whole levels
    assert np.abs(found - exact).max() <= 1
    np.testing.assert_array_equal(found[0, :2], [[255, 255, 255], [0, 0, 0]])


def test_grey_with_alpha_stays_grey_and_a_transparent_palette_entry_is_white() -> None:
    la = Image.merge("LA", (Image.new("L", (2, 1), 9), Image.fromarray(np.array([[0, 255]], np.uint8))))
    np.testing.assert_array_equal(decode(encoded(la, "PNG"), "x.png"), [[[255], [9]]])
    palette = Image.fromarray(np.array([[0, 1]], np.uint8)).convert("P")
    palette.putpalette([10, 20, 30, 200, 100, 50] + [0] * 762)
    np.testing.assert_array_equal(decode(encoded(palette, "PNG", transparency=0), "x.png"), [[[255, 255, 255], [200, 100, 50]]])


def test_sixteen_bits_are_divided_by_257() -> None:
    values = np.array([[0, 128, 129, 257, 32896, 65535]], np.uint16)
    found = decode(encoded(Image.fromarray(values), "PNG"), "x.png")
    np.testing.assert_array_equal(found[:, :, 0], np.floor(values / 257 + 0.5).astype(np.uint8))
    np.testing.assert_array_equal(decode(encoded(Image.fromarray(values), "TIFF"), "x.tif"), found)


def test_float_pixels_of_0_to_1_and_0_to_255() -> None:
    unit = Image.fromarray(np.array([[0, 0.5, 1]], np.float32))
    np.testing.assert_array_equal(plain(unit)[:, :, 0], [[0, 128, 255]])
    byte = Image.fromarray(np.array([[0, 2.2, 255]], np.float32))
    np.testing.assert_array_equal(plain(byte)[:, :, 0], [[0, 2, 255]])
    look = inspect(encoded(Image.fromarray(np.array([[-1, 3]], np.float32)), "TIFF"), "x.tif")
    assert "float pixels from -1 to 3; read are 0..1 and 0..255" in look.reason


def test_cmyk_becomes_rgb() -> None:
    image = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    found = decode(encoded(image, "JPEG", quality=95), "x.jpg")
    assert found.shape == (16, 16, 3)
    assert found[..., 0].min() > 240 and found[..., 1:].max() < 15


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation_is_turned_upright(picture, orientation) -> None:
    stored = picture(3, 4, 6)
    exif = Image.Exif()
    exif[0x0112] = orientation
    # EXIF 2.32, table of orientation: where row 0 and column 0 of the stored picture belong
    upright = {
        1: stored,
        2: stored[:, ::-1],
        3: stored[::-1, ::-1],
        4: stored[::-1],
        5: stored.transpose(1, 0, 2),
        6: stored.transpose(1, 0, 2)[:, ::-1],
        7: stored[::-1, ::-1].transpose(1, 0, 2),
        8: stored.transpose(1, 0, 2)[::-1],
    }[orientation]
    for form in ("PNG", "TIFF"):
        np.testing.assert_array_equal(decode(encoded(Image.fromarray(stored), form, exif=exif), f"x.{form.lower()}"), upright)
    assert set(UPRIGHT) == set(range(2, 9))


def test_damaged_exif_does_not_matter(picture) -> None:
    pixels = picture(4)
    raw = encoded(Image.fromarray(pixels), "PNG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xffgarbage")
    np.testing.assert_array_equal(decode(raw, "x.png"), pixels)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF"])
@pytest.mark.parametrize("keep", [0.9, 0.6])
def test_truncated_files_are_told(picture, form, keep) -> None:
    raw = encoded(Image.fromarray(picture(5, 80, 80)), form)
    look = inspect(raw[: int(len(raw) * keep)], f"x.{form.lower()}")
    assert look.height == 0
    assert look.kind in ("truncated", "unreadable")
    assert "damaged" in look.reason or "ends early" in look.reason


def test_a_flipped_byte_of_png_pixels_is_found(picture) -> None:
    raw = bytearray(encoded(Image.fromarray(picture(6, 40, 40)), "PNG"))
    raw[len(raw) // 2] ^= 0xFF
    look = inspect(bytes(raw), "x.png")
    assert (look.kind, look.height) == ("truncated", 0)


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"hello, this is a note about cats\n", "it is text, not an image"),
        (b"%PDF-1.7 ......", "a PDF document"),
        (b"PK\x03\x04" + bytes(40), "a ZIP archive"),
        (b"\0\0\0\x18ftypheic" + bytes(40), "a HEIC image (convert it to JPEG or PNG)"),
        (b"\0\0\0\x18ftypisom" + bytes(40), "a video"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "an SVG drawing"),
        (bytes(range(1, 200)), "it is not an image that is read (JPEG, PNG"),
        (b"\x89PNG\r\n\x1a\n", "damaged"),
    ],
)
def test_files_of_another_kind_are_named(raw, words) -> None:
    look = inspect(raw, "x.jpg")
    assert (look.kind, look.height) == ("unreadable", 0)
    assert words in look.reason


def test_an_empty_file_and_a_missing_file() -> None:
    assert inspect(b"", "x.jpg").kind == "empty"
    look = inspect("/nowhere/x.jpg", "x.jpg")
    assert (look.kind, look.reason) == ("unreadable", "the file cannot be opened (No such file or directory)")
    with pytest.raises(DataError, match=r"'/nowhere/x\.jpg' cannot be read: the file cannot be opened \(No such file"):
        data.read_image("/nowhere/x.jpg")


def test_a_wrong_extension_is_read_by_its_content(picture) -> None:
    pixels = picture(7)
    look = inspect(encoded(Image.fromarray(pixels), "PNG"), "x.jpg")
    assert (look.kind, look.height, look.format) == ("extension", 12, "PNG")
    assert look.reason == "the name says .jpg, the content is PNG; the content is used"
    assert inspect(encoded(Image.fromarray(pixels), "PNG"), "x").kind == ""


@pytest.mark.parametrize("form", ["GIF", "PNG", "WEBP", "TIFF"])
def test_the_first_frame_of_an_animation_is_used(form) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue")]
    options = {"lossless": True} if form == "WEBP" else {}
    raw = encoded(frames[0], form, save_all=True, append_images=frames[1:], **options)
    look = inspect(raw, f"x.{form.lower()}")
    assert (look.kind, look.height, look.reason) == ("animated", 8, "3 frames; the first is used")
    assert (decode(raw, "x.gif") == [255, 0, 0]).all()


def png_header(width: int, height: int) -> bytes:
    """A PNG that announces a size and holds next to nothing."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


def test_a_huge_image_is_refused_by_its_header() -> None:
    limit = Image.MAX_IMAGE_PIXELS
    look = inspect(png_header(20_000, 20_000), "x.png")
    assert (look.kind, look.height) == ("too_large", 0)
    assert look.reason == "20000 x 20000 pixels are more than the limit of 100,000,000"
    # above Pillow's warning and below our limit: no warning escapes (warnings are errors here), the damage is told
    assert inspect(png_header(9_500, 9_500), "x.png").kind == "truncated"
    assert Image.MAX_IMAGE_PIXELS == limit


def test_memory_that_runs_out_is_told(picture, monkeypatch) -> None:
    raw = encoded(Image.fromarray(picture(12)), "PNG")

    def load(self: Image.Image) -> None:
        raise MemoryError

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", load)
    look = inspect(raw, "x.png")
    assert (look.kind, look.reason) == ("too_large", "there is not enough memory to decode 12 x 12 pixels")


def test_a_multi_picture_jpeg_of_a_camera_is_one_image(tmp_path: Path) -> None:
    first, second = Image.new("RGB", (16, 16), "red"), Image.new("RGB", (8, 8), "blue")
    raw = encoded(first, "MPO", save_all=True, append_images=[second])
    look = inspect(raw, "x.jpg")
    assert (look.kind, look.height, look.format) == ("", 16, "MPO")


def test_the_pixel_limit_is_inclusive(picture) -> None:
    raw = encoded(Image.fromarray(picture(8, 10, 10)), "PNG")
    assert inspect(raw, "x.png", max_pixels=100).kind == ""
    assert inspect(raw, "x.png", max_pixels=99).kind == "too_large"


def test_pillows_own_limit_survives_many_threads(picture) -> None:
    limit, raw = Image.MAX_IMAGE_PIXELS, encoded(Image.fromarray(picture(9)), "PNG")
    threads = [threading.Thread(target=lambda: [inspect(raw, "x.png") for _ in range(20)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Image.MAX_IMAGE_PIXELS == limit


def test_the_digest_is_of_pixels_and_shape(picture) -> None:
    pixels = picture(10, 4, 6)
    png, bmp = (inspect(encoded(Image.fromarray(pixels), form), "x") for form in ("PNG", "BMP"))
    assert png.digest == bmp.digest == digest(pixels)
    assert digest(pixels.reshape(6, 4, 3)) != digest(pixels)
    changed = pixels.copy()
    changed[3, 5, 2] ^= 1
    assert digest(changed) != digest(pixels)


def test_the_outline_survives_scaling_and_tells_pictures_apart(picture) -> None:
    blocks = np.kron(picture(11, 8, 9, 1)[:, :, 0], np.ones((8, 8), np.uint8))[:, :, None]
    half = np.asarray(Image.fromarray(blocks[:, :, 0]).resize((36, 32)))[:, :, None]
    mirrored = blocks[:, ::-1]
    assert (outline(blocks) ^ outline(half)).bit_count() <= 2
    assert (outline(blocks) ^ outline(np.ascontiguousarray(mirrored))).bit_count() > 10
