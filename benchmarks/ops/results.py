"""Where figures are kept: results/KIND/ops.json is a machine kind's newest, earlier ones lie in folders beside it."""

import json
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent.parent / "results"


def keep(document: dict[str, Any], results: Path = RESULTS) -> Path:
    """Writes the newest figures of a machine kind; what was there moves to results/KIND/COMMIT-TIME/ops.json."""
    path = results / document["machine"]["kind"] / "ops.json"
    if path.exists():
        before = json.loads(path.read_text())["machine"]
        place = path.parent / f"{before['commit']}-{before['time'].replace(':', '')}"
        place.mkdir()
        path.rename(place / "ops.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1) + "\n")
    return path


def regressions(results: Path = RESULTS, *, allowed: float = 0.05) -> list[str]:
    """Rows of ours in the newest figures of a kind whose efficiency fell below an earlier one's, beyond doubt.

    Beyond doubt: by more than `allowed`, and the middle 60 % of rounds of the two do not meet.
    """
    found = []
    for newest_file in sorted(results.glob("*/ops.json")):
        best = {}
        for file in newest_file.parent.glob("*/ops.json"):
            for key, row in _efficiencies(file).items():
                if key not in best or row["efficiency"] > best[key]["efficiency"]:
                    best[key] = row
        for key, row in _efficiencies(newest_file).items():
            if key in best and _fell(row, best[key], allowed):
                found.append(f"{newest_file.parent.name} {' '.join(key)}: {_said(row)}, was {_said(best[key])}")
    return found


def _efficiencies(file: Path) -> dict[tuple[str, str], dict[str, Any]]:
    rows = json.loads(file.read_text())["rows"]
    return {(r["op"], r["workload"]): r for r in rows if r["variant"] == "ours" and r["efficiency"] is not None}


def _fell(row: dict[str, Any], best: dict[str, Any], allowed: float) -> bool:
    most = row["efficiency"] * row["ms_p50"] / row["ms_p20"]
    least_of_best = best["efficiency"] * best["ms_p50"] / best["ms_p80"]
    return row["efficiency"] < (1 - allowed) * best["efficiency"] and most < least_of_best


def _said(row: dict[str, Any]) -> str:
    return f"efficiency {row['efficiency']:.3f} ({row['ms_p50']:.2f} ms)"
