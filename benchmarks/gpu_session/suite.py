"""Section: the kernels' own tests, which launch on the GPU where there is one."""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from benchmarks.gpu_session.journal import Row
from benchmarks.gpu_session.scale import Scale

ROOT = Path(__file__).parents[2]


def suite(scale: Scale) -> Iterator[Row]:
    """How many tests passed, and each that failed with its first line."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}", *scale.suite]
        subprocess.run(command, cwd=ROOT, check=False)  # its exit code says no more than the report
        suites = list(ElementTree.parse(report).getroot())
    counts = {name: sum(int(s.get(name, 0)) for s in suites) for name in ("tests", "failures", "errors", "skipped")}
    yield {**counts, "seconds": sum(float(s.get("time", 0)) for s in suites)}
    for case in (case for s in suites for case in s.iter("testcase")):
        for problem in [*case.findall("failure"), *case.findall("error")]:
            said = problem.get("message", "").splitlines()[:1]
            yield {"test": f"{case.get('classname')}::{case.get('name')}", "failed": said[0][:300] if said else ""}
