"""Images become RGB once and get their size once, here: engine and policy then see the same pixels.

A size is right when the model's own image processor would leave it alone: both sides multiples of 28 (two patches of
14, merged), the area within the budget, the sides within 1:200.
"""

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image

from srpo_fast.config import UserError

ImageSource = Path | str | bytes | Image.Image

MAX_ASPECT_RATIO = 200  # Qwen2-VL's image processor refuses more
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
# what Pillow's decoders raise on damaged files: found by fuzzing them
_DECODE_ERRORS = (
    *(OSError, EOFError, SyntaxError, ValueError, TypeError, RuntimeError, LookupError, ArithmeticError),
    *(struct.error, Image.DecompressionBombError),
)
_UPRIGHT = {  # by EXIF orientation; ImageOps.exif_transpose also rewrites the EXIF data, and fails where they are odd
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class ImageError(UserError):
    """An image that cannot be used: the message names it and says what was expected, what came and what to do."""


def load_image(source: ImageSource, root: Path) -> Image.Image:
    """`source` as an upright RGB image: transparency over white, 16-bit grey scaled to 8 bits.

    source: a path (relative ones start at `root`; `file://` is understood), the bytes of a file, or a PIL image.
    Raises ImageError when it is missing, damaged, empty, animated, thinner than 1:200, or of 32 bits a channel.
    """
    with _opened(source, root) as image:
        image.load()
        turn = _UPRIGHT.get(image.getexif().get(ExifTags.Base.Orientation, 1))
        return _to_rgb(image if turn is None else image.transpose(turn))


def check_image(source: ImageSource, root: Path) -> None:
    """Raises `load_image`'s ImageError for everything the header tells; a damaged body shows only when decoded."""
    with _opened(source, root):
        pass


def image_file(source: ImageSource, root: Path) -> Path | None:
    """The absolute path that `load_image` reads `source` from; None when that is no file."""
    if isinstance(source, bytes | Image.Image):
        return None
    return (root / str(source).removeprefix("file://")).absolute()


def resize_once(image: Image.Image, *, min_pixels: int, max_pixels: int, factor: int = 28) -> Image.Image:
    """`image` at the size nearest its own whose sides are multiples of `factor` and whose area is within the budget.

    An image of such a size comes back as it is. Raises ValueError when the budget admits no size.
    """
    rows, columns = _nearest_grid(
        image.height / factor,
        image.width / factor,
        min_cells=-(-min_pixels // factor**2),
        max_cells=max_pixels // factor**2,
    )
    if not rows:
        raise UserError(
            f"no multiple of {factor}x{factor} pixels has between {min_pixels} and {max_pixels} pixels; "
            "widen data.min_pixels .. data.max_pixels"
        )
    size = (columns * factor, rows * factor)
    return image if image.size == size else image.resize(size, Image.Resampling.BICUBIC)


def _nearest_grid(height: float, width: float, *, min_cells: int, max_cells: int) -> tuple[int, int]:
    """The (rows, columns) with min_cells <= rows * columns <= max_cells nearest `height` x `width`; (0, 0) if none.

    Near is in ratios: both sides of the ideal, which has the image's shape and the area clipped to the budget, count
    by the factor they are off.
    """
    area = min(max(height * width, min_cells), max_cells)
    ideal_rows, ideal_columns = (area * height / width) ** 0.5, (area * width / height) ** 0.5
    rows = np.arange(1, max_cells + 1)
    low = np.maximum(-(-min_cells // rows), -(-rows // MAX_ASPECT_RATIO))
    high = np.minimum(max_cells // rows, rows * MAX_ASPECT_RATIO)
    rows, low, high = rows[low <= high], low[low <= high], high[low <= high]
    if not len(rows):
        return 0, 0
    columns = np.clip(round(ideal_columns), low, high)
    best = np.argmin(abs(np.log(rows / ideal_rows)) + abs(np.log(columns / ideal_columns)))
    return int(rows[best]), int(columns[best])


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
        raise ImageError(
            f"{name}: expected a readable {', '.join(FORMATS)} image, got one that fails with: {error}; "
            "repair it or leave it out"
        ) from error


def _file(source: Path | str | bytes, root: Path) -> BytesIO | Path:
    if isinstance(source, bytes):
        return BytesIO(source)
    text = str(source)
    if text.startswith(("http://", "https://", "data:")):
        raise ImageError(f"{_name(source)}: expected a path, got a URL; save the image to a file and give its path")
    path = root / text.removeprefix("file://")
    if not os.path.isfile(path):  # unlike Path.is_file, silent about names the system cannot hold
        raise ImageError(f"{_name(source)}: expected an image file at {path}, found none; check data.image_root")
    return path


def _name(source: ImageSource) -> str:
    if isinstance(source, Path | str):
        return f"image {str(source)[:200]}"
    return f"image of {len(source)} bytes" if isinstance(source, bytes) else "image in memory"


def _check_header(image: Image.Image, name: str) -> None:
    width, height = image.size
    if min(width, height) < 1:
        raise ImageError(f"{name}: expected at least one pixel, got {width}x{height}; leave it out")
    if max(width, height) > MAX_ASPECT_RATIO * min(width, height):
        raise ImageError(
            f"{name}: expected sides within 1:{MAX_ASPECT_RATIO}, got {width}x{height}; crop, pad or leave it out"
        )
    # a phone's MPO file is one photo with previews behind it
    if getattr(image, "is_animated", False) and image.format != "MPO":
        raise ImageError(f"{name}: expected one still image, got several frames; save the frame that is meant")
    if image.mode in ("I", "F"):
        raise ImageError(f"{name}: expected 8 or 16 bits a channel, got 32 (mode {image.mode}); save it with 8 bits")


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        white = Image.new("RGB", image.size, "white")
        white.paste(layer, mask=layer.getchannel("A"))
        return white
    return image.convert("RGB")
