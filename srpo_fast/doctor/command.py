"""`srpo doctor`: its options, and what it prints."""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from srpo_fast.config import UserError

_MARKS = {"ok": "[green]ok[/]     ", "warning": "[yellow]warning[/]", "error": "[red]error[/]  "}


def add_doctor_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--model", type=Path, metavar="DIR", help="for the self-test (default: the embedded model)")
    command.add_argument("--dtype", choices=["float32", "bfloat16"], help="of the self-test (default: the device's)")
    command.add_argument("--kv-cache-gib", type=float, default=0.125, metavar="G", help="(default: %(default)s)")
    command.add_argument("--run-dir", type=Path, default=Path("runs"), help="whose disk is looked at")
    command.add_argument("--no-self-test", action="store_true", help="look at machine and packages only")
    command.add_argument("--json", action="store_true", help="print one JSON document, the last line")


def doctor(options: argparse.Namespace) -> int:
    """Checks machine and packages, and that engine and policy agree; exit code 1 when training cannot work."""
    import torch
    from rich.console import Console

    from srpo_fast.doctor.finding import Finding, Status
    from srpo_fast.doctor.machine import check_machine
    from srpo_fast.doctor.packages import check_packages

    if options.model and not (options.model / "config.json").is_file():
        raise UserError(f"expected a Hugging Face model directory, found no config.json in {options.model}")
    console = Console(highlight=False, soft_wrap=True)
    findings: list[Finding] = []

    def report(some: Sequence[Finding]) -> None:
        findings.extend(some)
        for finding in () if options.json else some:
            console.print(f"{_MARKS[finding.status]}  {finding.subject}: {finding.says}")
            if finding.remedy:
                console.print(f"           -> {finding.remedy}")

    report(list(check_machine(options.run_dir)))
    report(list(check_packages()))
    is_sound = all(finding.status is not Status.ERROR for finding in findings)
    if is_sound and not options.no_self_test:
        from srpo_fast.doctor.self_test import check_agreement

        dtype = options.dtype or ("bfloat16" if torch.cuda.is_available() else "float32")
        report(check_agreement(options.model, dtype, options.kv_cache_gib))
    errors = sum(finding.status is Status.ERROR for finding in findings)
    if options.json:
        print(json.dumps({"ok": not errors, "findings": [asdict(finding) for finding in findings]}))
    else:
        done = "no error; engine and policy were not compared" if options.no_self_test else "ready to train"
        console.print(f"{errors} errors" if errors else done)
    return 1 if errors else 0
