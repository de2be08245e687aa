"""Images become RGB once and get their size once, here: engine and policy then see the same pixels.

The size is Qwen's own: what the model's image processor would make of the image, both sides multiples of 28 (two
patches of 14, merged).
"""

import base64
import math
import os
import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image

from srpo_fast.bad_record import BadRecord, Reason

ImageSource = Path | str | bytes | Image.Image  # a text is a path, a file:// or data: URL, or a file in base64

MAX_ASPECT_RATIO = 200  # Qwen2-VL's image processor refuses more
MAX_PIXELS = 89_478_485  # a quarter of a GB in RGB: Pillow suspects a decompression bomb behind more
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
# what Pillow's decoders raise on damaged files: found by fuzzing them
_DECODE_ERRORS = (
    *(OSError, EOFError, SyntaxError, ValueError, TypeError, RuntimeError, LookupError, ArithmeticError),
    *(struct.error, Image.DecompressionBombError, Image.DecompressionBombWarning),
)
# how a JPEG, PNG, GIF or WEBP file begins in base64
_BASE64 = re.compile(r"(?:/9j/|iVBORw0KGgo|R0lGOD|UklGR)[A-Za-z0-9+/\s]{52,}=*\s*")
_UPRIGHT = {  # by EXIF orientation; ImageOps.exif_transpose also rewrites the EXIF data, and fails where they are odd
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class ImageError(BadRecord):
    """An image that cannot be used: the message names it and says what was expected, what came and what to do."""


def load_image(source: ImageSource, root: Path) -> Image.Image:
    """`source` as an upright RGB image: transparency over white, 16-bit grey scaled to 8 bits.

    source: a path, a file:// or data: URL, a file in base64 or as bytes, or a PIL image. A relative path starts at
    `root`; an absolute one that is not there means the file of its name in `root`.
    Raises ImageError when it is missing, damaged, empty, animated, thinner than 1:200, of more than MAX_PIXELS, or of
    32 bits a channel.
    """
    with _opened(source, root) as image:
        image.load()
        turn = _UPRIGHT.get(image.getexif().get(ExifTags.Base.Orientation, 1))
        return _to_rgb(image if turn is None else image.transpose(turn))


def check_image(source: ImageSource, root: Path) -> tuple[int, int]:
    """(width, height) as stored; raises `load_image`'s ImageError for everything the header tells.

    A damaged body shows only when decoded.
    """
    with _opened(source, root) as image:
        return image.size


def image_file(source: ImageSource, root: Path) -> Path | None:
    """The absolute path that `load_image` reads `source` from; None when that is no file."""
    if isinstance(source, bytes | Image.Image) or _is_data(str(source)):
        return None
    return _path(str(source), root).absolute()


def image_bytes(source: ImageSource, root: Path) -> bytes:
    """The file of `source` as it is; a PIL image as a PNG. Raises ImageError when it is missing."""
    if isinstance(source, Image.Image):
        buffer = BytesIO()
        source.save(buffer, "PNG")
        return buffer.getvalue()
    name = _name(source)
    try:
        file = _file(source, root)
        return file.read_bytes() if isinstance(file, Path) else file.getvalue()
    except (OSError, ValueError) as error:
        if isinstance(error, ImageError):
            raise
        raise _damaged(name, error) from error


def resize_once(image: Image.Image, *, min_pixels: int, max_pixels: int, factor: int = 28) -> Image.Image:
    """`image` at the size that Qwen's image processor gives it; one that has it already comes back as it is.

    Sides go to the nearest multiples of `factor`; if their area is outside the budget, the image is scaled to the
    budget's edge first and the sides rounded inwards. A strip may stay outside a small budget, as it does in Qwen's.
    """
    size = qwen_size(image.size, min_pixels=min_pixels, max_pixels=max_pixels, factor=factor)
    return image if image.size == size else image.resize(size, Image.Resampling.BICUBIC)


def qwen_size(size: tuple[int, int], *, min_pixels: int, max_pixels: int, factor: int = 28) -> tuple[int, int]:
    """(width, height) that `resize_once` gives an image of (width, height)."""
    width, height = size
    area = round(width / factor) * round(height / factor) * factor**2
    if area > max_pixels:
        scale = math.sqrt(width * height / max_pixels)
        columns, rows = (max(1, math.floor(side / scale / factor)) for side in (width, height))
    elif area < min_pixels:
        scale = math.sqrt(min_pixels / (width * height))
        columns, rows = (math.ceil(side * scale / factor) for side in (width, height))
    else:
        columns, rows = round(width / factor), round(height / factor)
    return columns * factor, rows * factor


@contextmanager
def _opened(source: ImageSource, root: Path) -> Iterator[Image.Image]:
    """The image, its header checked, its pixels not yet read; decoding errors inside become ImageErrors."""
    name = _name(source)
    try:
        if isinstance(source, Image.Image):
            _check_header(source, name)
            yield source
        else:
            with Image.open(_file(source, root), formats=FORMATS) as image:
                _check_header(image, name)
                yield image
    except ImageError:
        raise
    except _DECODE_ERRORS as error:
        raise _damaged(name, error) from error


def _file(source: Path | str | bytes, root: Path) -> BytesIO | Path:
    if isinstance(source, bytes):
        return BytesIO(source)
    text = str(source)
    if _is_data(text):
        return BytesIO(_decoded(text))
    if text.startswith(("http://", "https://")):
        raise ImageError(
            "image_url", f"{_name(source)}: expected a path, got a URL; save the image to a file and give its path"
        )
    path = _path(text, root)
    if not os.path.isfile(path):
        raise ImageError(
            "image_missing",
            f"{_name(source)}: expected an image file at {path!s:.300}, found none; "
            "check where its path starts: image_root in a config, --image-root of a command",
        )
    return path


def _path(text: str, root: Path) -> Path:
    """Published files name images by absolute paths of the machine they were made on: the file of that name in `root`
    is meant where there is no such path.
    """
    path = root / text.removeprefix("file://")
    # unlike Path.is_file, silent about names the system cannot hold
    if text.startswith(("/", "file:///")) and not os.path.isfile(path) and os.path.isfile(root / path.name):
        return root / path.name
    return path


def _is_data(text: str) -> bool:
    return text.startswith("data:") or _BASE64.fullmatch(text) is not None


def _decoded(text: str) -> bytes:
    """The file in a data: URL or in base64."""
    header, comma, body = text.partition(",") if text.startswith("data:") else ("data:;base64", ",", text)
    if not comma or not header.endswith(";base64"):
        raise ImageError(
            "image_url", f"{_name(text)}: expected data:image/...;base64, and the file in base64, got no such URL"
        )
    return base64.b64decode("".join(body.split()), validate=True)


def _damaged(name: str, error: Exception) -> ImageError:
    return ImageError(
        "image_unreadable",
        f"{name}: expected a readable {', '.join(FORMATS)} image, got one that fails with: {error}; "
        "repair it or leave it out",
    )


def _name(source: ImageSource) -> str:
    if isinstance(source, Path | str):
        text = str(source)
        return f"image {text[:40]}..." if _is_data(text) else f"image {text[:200]}"
    return f"image of {len(source)} bytes" if isinstance(source, bytes) else "image in memory"


def _check_header(image: Image.Image, name: str) -> None:
    def refuse(reason: Reason, expected: str, got: str) -> None:
        raise ImageError(reason, f"{name}: expected {expected}, got {got}")

    width, height = image.size
    if min(width, height) < 1:
        refuse("image_empty", "at least one pixel", f"{width}x{height}; leave it out")
    if max(width, height) > MAX_ASPECT_RATIO * min(width, height):
        refuse("image_aspect", f"sides within 1:{MAX_ASPECT_RATIO}", f"{width}x{height}; crop, pad or leave it out")
    if width * height > MAX_PIXELS:
        refuse("image_too_large", f"at most {MAX_PIXELS:,} pixels", f"{width}x{height}; shrink it")
    # a phone's MPO file is one photo with previews behind it
    if getattr(image, "is_animated", False) and image.format != "MPO":
        refuse("image_frames", "one still image", "several frames; save the frame that is meant")
    if image.mode in ("I", "F"):
        refuse("image_depth", "8 or 16 bits a channel", f"32 (mode {image.mode}); save it with 8 bits")


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        white = Image.new("RGB", image.size, "white")
        white.paste(layer, mask=layer.getchannel("A"))
        return white
    return image.convert("RGB")
