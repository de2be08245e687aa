"""The pictures: four cells of 28 x 28 pixels in a row, each one merged visual token of Qwen2.5-VL.

Handwritten digits are the 8 x 8 scans of the UCI optical recognition data set (scikit-learn's load_digits), enlarged.
Charts have one bar a cell over shared grid lines; a bar is as high as its value, 0 to 9.
"""

from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits

CELL = 28  # pixels: 2 x 2 patches of 14
CELLS = 4
VARIANTS = 8  # of every training scan; the first is the scan itself

_PAPER, _GRID, _BAR = (255, 255, 255), (214, 214, 214), (31, 119, 180)
_BASELINE = 26  # the row just under a bar


@cache
def scan_labels() -> NDArray[np.int64]:
    """[1797] the digit each scan shows."""
    return load_digits().target.astype(np.int64)


@cache
def scan_glyphs() -> NDArray[np.uint8]:
    """[1797, VARIANTS, 28, 28] grey pictures of every scan; all variants but the first are distorted a little."""
    rng = np.random.default_rng(0)
    scans = load_digits().images
    glyphs = np.empty((len(scans), VARIANTS, CELL, CELL), dtype=np.uint8)
    for scan, row in zip(scans, glyphs, strict=True):
        ink = Image.fromarray((scan * (255 / 16)).astype(np.uint8))
        for variant in range(VARIANTS):
            matrix = _placement(rng) if variant else _placement(None)
            row[variant] = 255 - np.asarray(ink.transform((CELL, CELL), Image.Transform.AFFINE, matrix, Image.BICUBIC))
    return glyphs


@cache
def bar_cells() -> NDArray[np.uint8]:
    """[10, 28, 28, 3] a chart's cell for every bar height."""
    cells = np.empty((10, CELL, CELL, 3), dtype=np.uint8)
    cells[:] = _PAPER
    for value in range(0, 10, 3):
        cells[:, _BASELINE - _pixels(value)] = _GRID
    for value in range(10):
        cells[value, _BASELINE - _pixels(value) : _BASELINE, 7:21] = _BAR
    return cells


def draw_digits(scans: NDArray[np.int64], variants: NDArray[np.int64]) -> Image.Image:
    """The 28 x 112 RGB picture of four scans ([4] indices) in the given variants ([4])."""
    row = np.concatenate(list(scan_glyphs()[scans, variants]), axis=1)
    return Image.fromarray(np.repeat(row[:, :, None], 3, axis=2))


def draw_bars(values: NDArray[np.int64]) -> Image.Image:
    """The 28 x 112 RGB chart of four values ([4], 0 to 9)."""
    return Image.fromarray(np.concatenate(list(bar_cells()[values]), axis=1))


def _pixels(value: int) -> int:
    return round(value * 24 / 9)


def _placement(rng: np.random.Generator | None) -> tuple[float, ...]:
    """PIL's affine matrix from a cell's pixels to a scan's, the scan 24 pixels wide in the middle of the cell."""
    linear, shift = np.eye(2) / 3, np.zeros(2)
    if rng is not None:
        angle = rng.uniform(-0.2, 0.2)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        shear = np.array([[1.0, rng.uniform(-0.2, 0.2)], [0.0, 1.0]])
        linear = linear @ turn @ shear * rng.uniform(0.9, 1.1)
        shift = rng.uniform(-0.5, 0.5, size=2)
    offset = np.full(2, 4.0) + shift - linear @ np.full(2, CELL / 2)
    return (*linear[0], offset[0], *linear[1], offset[1])
