"""What a check found."""

from dataclasses import dataclass
from enum import StrEnum

SETUP = "run `make setup` (or `make setup STACK=gpu`)"


class Status(StrEnum):
    OK = "ok"
    WARNING = "warning"  # works, but slower or less
    ERROR = "error"  # training cannot work


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    subject: str
    status: Status
    says: str
    remedy: str = ""  # of what is not ok


def ok(subject: str, says: str) -> Finding:
    return Finding(subject=subject, status=Status.OK, says=says)


def warning(subject: str, says: str, remedy: str) -> Finding:
    return Finding(subject=subject, status=Status.WARNING, says=says, remedy=remedy)


def error(subject: str, says: str, remedy: str) -> Finding:
    return Finding(subject=subject, status=Status.ERROR, says=says, remedy=remedy)
