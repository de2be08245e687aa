"""`srpo doctor`: its options, and what it prints.

It is what one runs on a broken installation, so until the self-test begins only the standard library is needed.
"""

import argparse
import json
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

from srpo_fast.doctor.finding import SETUP, Finding, Status, error
from srpo_fast.doctor.imports import BROKEN, check_imports, on_cuda
from srpo_fast.doctor.machine import check_machine
from srpo_fast.doctor.packages import check_packages, required_packages
from srpo_fast.user_error import CommandParser, UserError

_COLOURS = {"ok": "32", "warning": "33", "error": "31"}


def doctor_options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = CommandParser(prog="srpo doctor", description=doctor.__doc__)
    parser.add_argument("--model", type=Path, metavar="DIR", help="for the self-test (default: the embedded model)")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], help="of the self-test (default: the device's)")
    parser.add_argument("--kv-cache-gib", type=float, default=0.125, metavar="G", help="(default: %(default)s)")
    parser.add_argument("--run-dir", type=Path, default=Path("runs"), help="whose disk is looked at")
    parser.add_argument("--no-self-test", action="store_true", help="look at machine and packages only")
    parser.add_argument("--json", action="store_true", help="print one JSON document, the last line")
    return parser.parse_args(arguments)


def doctor(options: argparse.Namespace) -> int:
    """Checks machine and packages, and that engine and policy agree; exit code 1 when training cannot work."""
    if options.model and not (options.model / "config.json").is_file():
        raise UserError(f"expected a Hugging Face model directory, found no config.json in {options.model}")
    if not 0 < options.kv_cache_gib < float("inf"):
        raise UserError(f"expected --kv-cache-gib above 0, got {options.kv_cache_gib:g}")
    findings: list[Finding] = []

    def report(some: Iterable[Finding]) -> bool:
        """Whether nothing so far is an error."""
        for finding in some:
            findings.append(finding)
            if not options.json:
                print("\n".join(_lines(finding)), flush=True)
        return all(finding.status is not Status.ERROR for finding in findings)

    report(check_machine(options.run_dir))
    is_sound = report(check_packages()) and report(check_imports(required_packages()))
    if is_sound and not options.no_self_test:
        report(_self_test(options))
    errors = sum(finding.status is Status.ERROR for finding in findings)
    if options.json:
        print(json.dumps({"ok": not errors, "findings": [asdict(finding) for finding in findings]}))
    else:
        done = "no error; engine and policy were not compared" if options.no_self_test else "ready to train"
        print(f"{errors} error{'s' * (errors > 1)}" if errors else done)
    return 1 if errors else 0


def _self_test(options: argparse.Namespace) -> list[Finding]:
    dtype = options.dtype or ("bfloat16" if on_cuda() else "float32")
    try:
        from srpo_fast.doctor.self_test import check_agreement

        return check_agreement(options.model, dtype, options.kv_cache_gib)
    except UserError:
        raise
    except BROKEN as problem:  # by vLLM, Megatron, or what they load: the doctor's patient, not the doctor
        says = f"could not be compared: {type(problem).__name__}: {' '.join(str(problem).split())[:300]}"
        return [error("engine = policy", says, f"install the locked versions: {SETUP}")]


def _lines(finding: Finding) -> list[str]:
    mark = f"{finding.status:<7}"
    if sys.stdout.isatty() and not os.environ.get("NO_COLOR"):
        mark = f"\033[{_COLOURS[finding.status]}m{mark}\033[0m"
    remedy = [f"           -> {finding.remedy}"] if finding.remedy else []
    return [f"{mark}  {finding.subject}: {finding.says}", *remedy]
