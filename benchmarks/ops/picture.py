"""README's table and picture of the head, from committed figures: `python -m benchmarks.ops.picture`.

README.md holds the table between two comments; the picture lies beside the figures. Nothing here is typed by hand, and
tests/test_benchmark_results.py fails when README and figures part.
"""

import json
from pathlib import Path
from typing import Any

from benchmarks.ops.results import RESULTS

README = Path(__file__).parents[2] / "README.md"
BEGIN, END = "<!-- made by benchmarks/ops/picture.py -->\n", "<!-- until here -->\n"
LABELS = {
    "ours": "srpo_head", "torch": "PyTorch, rows with a label", "torch_full_logits": "PyTorch, all logits",
    "torch_live_rows": "PyTorch, rows with a gradient",
    "torch_compile": "torch.compile, rows with a label", "liger_chunked": "Liger, chunked",
    "liger_triton": "Liger, Triton", "trl": "TRL, selective_log_softmax",
}  # fmt: skip
BAR, GAP, LEFT, WIDTH = 18, 8, 220, 640  # pixels


def main() -> None:
    files = sorted(RESULTS.glob("*/ops.json"))
    for file in files:
        (file.parent / "ops.svg").write_text(svg(head_rows(file)))
    README.write_text(with_table(README.read_text(), files))


def head_rows(file: Path) -> list[dict[str, Any]]:
    """The fastest first."""
    rows = [row for row in json.loads(file.read_text())["rows"] if row["op"] == "head"]
    return sorted(rows, key=lambda row: row["ms_p50"])


def with_table(readme: str, files: list[Path]) -> str:
    before, _, rest = readme.partition(BEGIN)
    _, _, after = rest.partition(END)
    assert after, f"README.md has no part between {BEGIN.strip()} and {END.strip()}"
    return before + BEGIN + "".join(table(file) for file in files) + END + after


def table(file: Path) -> str:
    machine = json.loads(file.read_text())["machine"]
    name = machine["gpu"] or f"{machine['cpu']}, {machine['threads']} thread{'s' * (machine['threads'] > 1)}"
    name += ", processor time" if machine["clock"] == "processor" else ""
    lines = [
        f"| {name} | ms (middle 60 %) | extra memory | of the machine's matrix products | ours is faster |",
        "|---|---|---|---|---|",
    ]
    for row in head_rows(file):
        faster = row["ours_is_faster"]
        ratio = "" if faster is None else f"{faster['p50']:.1f} x ({faster['p20']:.1f} to {faster['p80']:.1f})"
        lines.append(
            f"| {LABELS[row['variant']]} | {row['ms_p50']:.0f} ({row['ms_p20']:.0f} to {row['ms_p80']:.0f}) "
            f"| {row['extra_bytes'] / 2**20:.0f} MiB | {row['efficiency']:.0%} | {ratio} |"
        )
    picture = (file.parent / "ops.svg").relative_to(README.parent)
    return "\n".join(lines) + f"\n\n![Time and extra memory of the head]({picture})\n"


def svg(rows: list[dict[str, Any]]) -> str:
    """Bars of time and extra memory, each from 0 and in its own colour."""
    slowest, largest = max(r["ms_p50"] for r in rows), max(1, *(r["extra_bytes"] for r in rows))
    height = len(rows) * (2 * BAR + GAP) + 30
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {LEFT + WIDTH} {height}" font-family="sans-serif" '
        'font-size="13">',
        f'<rect width="{LEFT + WIDTH}" height="{height}" fill="white"/>',
    ]
    for number, row in enumerate(rows):
        top = number * (2 * BAR + GAP) + GAP
        label = LABELS[row["variant"]]
        parts.append(f'<text x="{LEFT - 8}" y="{top + BAR + 4}" text-anchor="end">{label}</text>')
        mib = row["extra_bytes"] / 2**20
        parts += _bar(top, row["ms_p50"] / slowest, "#3b6ea5", f"{row['ms_p50']:.0f} ms")
        parts += _bar(top + BAR, row["extra_bytes"] / largest, "#c9a227", f"{mib:.0f} MiB")
    parts.append(f'<text x="{LEFT}" y="{height - 8}">forward and backward: time, and memory beside the results</text>')
    return "\n".join([*parts, "</svg>", ""])


def _bar(top: int, share: float, colour: str, value: str) -> list[str]:
    width = max(1, round(share * (WIDTH - 90)))
    return [
        f'<rect x="{LEFT}" y="{top}" width="{width}" height="{BAR - 2}" fill="{colour}"/>',
        f'<text x="{LEFT + width + 6}" y="{top + BAR - 5}">{value}</text>',
    ]


if __name__ == "__main__":
    main()
