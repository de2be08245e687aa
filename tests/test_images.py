import base64
import struct
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image

from srpo_fast import torchvision_shim  # noqa: F401

# isort: split
from transformers.models.qwen2_vl.image_processing_qwen2_vl import smart_resize

from srpo_fast.images import ImageError, check_image, image_file, load_image, resize_once

HERE = Path()
CELL = 28 * 28


def encoded(image: Image.Image, file_format: str, **options) -> bytes:
    file = BytesIO()
    image.save(file, file_format, **options)
    return file.getvalue()


def noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


side = st.integers(1, 3000)


@given(width=side, height=side, low=st.integers(1, 3000), spread=st.integers(0, 700_000))
@settings(max_examples=400)
def test_the_size_is_that_of_the_models_processor(width, height, low, spread):
    assume(max(width, height) <= 200 * min(width, height))
    budget = {"min_pixels": low, "max_pixels": low + spread}
    expected = smart_resize(height, width, factor=28, **budget)
    assume(max(expected) * 28 < 20_000_000)
    resized = resize_once(Image.new("L", (width, height)), **budget)
    assert (resized.height, resized.width) == expected


@given(width=side, height=side, low=st.integers(1, 20), spread=st.integers(200, 700))
@settings(max_examples=200)
def test_a_resized_image_is_left_alone(width, height, low, spread):
    """But for strips, which the rule lets stay outside a budget smaller than they are long."""
    assume(max(width, height) <= 100 * min(width, height))
    budget = {"min_pixels": low * CELL, "max_pixels": (low + spread) * CELL}
    resized = resize_once(Image.new("L", (width, height)), **budget)
    assert resize_once(resized, **budget) is resized
    assert low * CELL <= resized.width * resized.height <= (low + spread) * CELL


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((112, 28), (112, 28)),  # already right
        ((100, 60), (112, 56)),  # nearest multiples
        ((10, 10), (56, 56)),  # up to the smallest area
        ((4000, 1000), (50 * 28, 12 * 28)),  # down to 640 cells: 50.6 x 12.6, rounded down
        ((20, 4000), (28, 4004)),  # narrow: one cell wide, as long as the image
    ],
)
def test_sizes_worked_out_by_hand(size, expected):
    assert resize_once(Image.new("RGB", size), min_pixels=4 * CELL, max_pixels=640 * CELL).size == expected


def test_resizing_keeps_the_picture():
    halves = Image.new("RGB", (100, 50), "red")
    halves.paste("blue", (0, 0, 50, 50))
    resized = resize_once(halves, min_pixels=4 * CELL, max_pixels=8 * CELL)
    assert resized.getpixel((2, 2)) == (0, 0, 255)
    assert resized.getpixel((resized.width - 3, resized.height - 3)) == (255, 0, 0)


@pytest.mark.parametrize("source", ["photo.png", Path("photo.png"), "file://{root}/photo.png", "{root}/photo.png"])
def test_paths_are_relative_to_the_root_or_absolute(tmp_path, source):
    picture = noise(9, 7)
    picture.save(tmp_path / "photo.png")
    source = source.format(root=tmp_path) if isinstance(source, str) else source
    assert np.array_equal(np.asarray(load_image(source, tmp_path)), np.asarray(picture))


@pytest.mark.parametrize("source", ["/mnt/elsewhere/photo.png", "file:///mnt/elsewhere/photo.png"])
def test_a_path_of_another_machine_means_the_file_of_that_name_in_the_root(tmp_path, source):
    with pytest.raises(ImageError, match=r"expected an image file at /mnt/elsewhere/photo\.png"):
        load_image(source, tmp_path)
    noise(9, 7).save(tmp_path / "photo.png")
    assert load_image(source, tmp_path).size == (9, 7)
    assert image_file(source, tmp_path) == tmp_path / "photo.png"
    (tmp_path / "other").mkdir()
    with pytest.raises(ImageError):  # a relative path is meant as it is
        load_image("elsewhere/photo.png", tmp_path)


def base64_of(data: bytes) -> str:
    return base64.b64encode(data).decode()


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "GIF", "WEBP"])
@pytest.mark.parametrize("prefix", ["data:image/x;base64,", "data:;base64,", ""])
def test_base64_is_read_as_the_file_it_encodes(tmp_path, file_format, prefix):
    data = encoded(noise(9, 7), file_format)
    expected = np.asarray(load_image(data, HERE))
    text = base64_of(data)
    for body in (text, text[:30] + "\n" + text[30:] + "\n"):
        assert np.array_equal(np.asarray(load_image(prefix + body, tmp_path)), expected)
    assert image_file(prefix + text, tmp_path) is None


@pytest.mark.parametrize("name", ["iVBORw0KGgo.png", "9j/a.jpg", "R0lGOD/UklGR", "data"])
def test_a_path_is_not_taken_for_base64(tmp_path, name):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    noise(9, 7).save(tmp_path / name, "PNG")
    assert load_image(name, tmp_path).size == (9, 7)
    assert image_file(name, tmp_path) == tmp_path / name


def test_a_loaded_image_is_plain_rgb_in_memory():
    loaded = load_image(encoded(noise(9, 7), "PNG"), HERE)
    assert (type(loaded), loaded.mode, loaded.size) == (Image.Image, "RGB", (9, 7))


@pytest.mark.parametrize(
    ("image", "file_format", "pixel"),
    [
        (Image.new("L", (4, 4), 77), "PNG", (77, 77, 77)),
        (Image.new("1", (4, 4), 1), "PNG", (255, 255, 255)),
        (Image.new("RGBA", (4, 4), (255, 0, 0, 0)), "PNG", (255, 255, 255)),  # fully transparent: white, not red
        (Image.new("RGBA", (4, 4), (255, 0, 0, 255)), "PNG", (255, 0, 0)),
        (Image.new("LA", (4, 4), (0, 0)), "PNG", (255, 255, 255)),
        (Image.new("RGB", (4, 4), (0, 255, 0)).convert("P"), "GIF", (0, 255, 0)),
        (Image.new("CMYK", (4, 4), (0, 0, 0, 255)), "TIFF", (0, 0, 0)),
        (Image.fromarray(np.full((4, 4), 0x8123, dtype=np.uint16)), "PNG", (0x81, 0x81, 0x81)),
        (Image.fromarray(np.full((4, 4), 0x8123, dtype=">u2")), "TIFF", (0x81, 0x81, 0x81)),
    ],
)
def test_every_pixel_type_becomes_rgb(image, file_format, pixel):
    assert load_image(encoded(image, file_format), HERE).getpixel((1, 1)) == pixel


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photos_stand_upright(orientation):
    """An F-like picture stored turned, with the EXIF orientation that says so, comes out as it was."""
    upright = Image.new("L", (5, 7))
    upright.putdata(list(range(35)))
    stored_as = {
        1: None, 2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[orientation]  # fmt: skip
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    stored = upright if stored_as is None else upright.transpose(stored_as)
    loaded = load_image(encoded(stored, "PNG", exif=exif), HERE)
    assert np.array_equal(np.asarray(loaded)[..., 0], np.asarray(upright))


two_frames = {"save_all": True, "append_images": [Image.new("RGB", (8, 8), "blue")]}
red = Image.new("RGB", (8, 8), "red")


@pytest.mark.parametrize("file_format", ["GIF", "PNG", "WEBP", "TIFF"])
def test_several_frames_are_refused(file_format):
    with pytest.raises(ImageError, match="got several frames"):
        load_image(encoded(red, file_format, **two_frames), HERE)


def test_a_phones_photo_with_a_preview_is_one_image():
    assert load_image(encoded(red, "MPO", **two_frames), HERE).getpixel((4, 4))[0] > 200


def huge() -> bytes:
    """The header of a PNG of 40,000 x 40,000 pixels; the body is one row."""
    header = b"IHDR" + struct.pack(">IIBBBBB", 40_000, 40_000, 8, 0, 0, 0, 0)
    data = b"IDAT" + zlib.compress(bytes(40_001))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
        for chunk in (header, data, b"IEND")
    )


@pytest.mark.parametrize(
    ("source", "reason", "message"),
    [
        (
            "missing.png",
            "image_missing",
            r"image missing\.png: expected an image file at .*, --image-root",
        ),
        ("x" * 5000, "image_missing", "found none"),
        ("/9j/" + "a" * 10, "image_missing", "found none"),
        ("a\x00b", "image_missing", "found none"),
        ("https://example.org/a.png", "image_url", "expected a path, got a URL"),
        ("data:image/png,abc", "image_url", "expected data:image/...;base64"),
        ("data:image/png;base64", "image_url", "got no such URL"),
        ("data:image/png;base64,####", "image_unreadable", "expected a readable JPEG"),
        ("data:image/png;base64," + base64_of(b"no image"), "image_unreadable", "expected a readable JPEG"),
        ("iVBORw0KGgo" + "A" * 60, "image_unreadable", r"image iVBORw0KGgoA{29}\.\.\.: expected a readable"),
        (b"", "image_unreadable", "image of 0 bytes: expected a readable JPEG"),
        (b"<svg></svg>", "image_unreadable", "expected a readable JPEG"),
        (encoded(Image.new("I", (4, 4)), "TIFF"), "image_depth", r"got 32 \(mode I\)"),
        (encoded(Image.new("F", (4, 4)), "TIFF"), "image_depth", r"got 32 \(mode F\)"),
        (Image.new("RGB", (0, 3)), "image_empty", "expected at least one pixel, got 0x3"),
        (Image.new("RGB", (1, 201)), "image_aspect", "expected sides within 1:200, got 1x201"),
        (Image.new("1", (9000, 9950)), "image_too_large", "expected at most 89,478,485 pixels, got 9000x9950"),
        (huge(), "image_unreadable", "decompression bomb"),
    ],
)
def test_what_cannot_be_used_is_named(tmp_path, source, reason, message):
    for read in (load_image, check_image):
        with pytest.raises(ImageError, match=message) as caught:
            read(source, tmp_path)
        assert caught.value.reason == reason


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "WEBP"])
def test_a_truncated_file_passes_the_header_check_and_fails_when_decoded(tmp_path, file_format):
    whole = encoded(noise(60, 80), file_format)
    (tmp_path / "cut").write_bytes(whole[: len(whole) * 2 // 3])
    if file_format != "WEBP":  # has no header apart from the body
        check_image("cut", tmp_path)
    with pytest.raises(ImageError, match="image cut: expected a readable"):
        load_image("cut", tmp_path)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_damaged_bytes_never_raise_anything_but_an_image_error(file_format):
    """Seeded damage: bytes overwritten, mostly in the header, or the tail lost."""
    rng = np.random.default_rng(0)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    whole = encoded(noise(40, 30), file_format, **({} if file_format in ("GIF", "BMP") else {"exif": exif}))
    refused = 0
    for _ in range(150):
        damaged = bytearray(whole)
        damaged[rng.integers(0, min(400, len(whole)))] = rng.integers(0, 256)
        damaged[rng.integers(0, len(whole))] = rng.integers(0, 256)
        if rng.random() < 0.3:
            del damaged[rng.integers(1, len(whole)) :]
        try:
            assert load_image(bytes(damaged), HERE).mode == "RGB"
        except ImageError:
            refused += 1
    assert refused > 0
