"""The tree's own rules: names that would shadow a library, and sizes that are promised."""

import importlib.metadata
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
TOP_FOLDERS = ["srpo_fast", "kernels", "benchmarks", "tests"]


def sources() -> list[Path]:
    return [path for folder in TOP_FOLDERS for path in (ROOT / folder).rglob("*.py")]


def too_long(limit: int) -> dict[str, int]:
    lengths = {str(p.relative_to(ROOT)): len(p.read_text().splitlines()) for p in sources()}
    return {name: lines for name, lines in lengths.items() if lines > limit}


def test_no_other_folder_answers_for_hugging_faces_kernels():
    # transformers looks for a package `kernels`; any folder of that name on the path is one
    assert not (ROOT / "kernels" / "__init__.py").exists()
    others = [p for folder in TOP_FOLDERS for p in (ROOT / folder).rglob("kernels") if p.is_dir()]
    assert others == []


def test_no_module_shadows_a_library():
    # `torchrun srpo_fast/train.py` puts srpo_fast itself on the path
    ours = {p.stem for p in (ROOT / "srpo_fast").iterdir() if p.suffix == ".py" or (p / "__init__.py").exists()}
    theirs = set(importlib.metadata.packages_distributions()) - {"srpo_fast", "srpo_kernels"}
    assert ours & (theirs | set(sys.stdlib_module_names) | {"kernels", "datasets", "ray", "trl", "wandb"}) == set()


def test_files_stay_readable():
    assert too_long(400) == {}


def test_the_loop_stays_one_sitting():
    assert len((ROOT / "srpo_fast" / "train.py").read_text().splitlines()) <= 250


def test_transformers_tolerates_our_kernels_folder():
    # in a process that has the repository on its path, as `python -m benchmarks.x` has
    code = "from transformers.utils.import_utils import is_kernels_available; is_kernels_available()"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-2000:]
