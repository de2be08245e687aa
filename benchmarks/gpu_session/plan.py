"""The sections of a session in order of worth. Nothing of torch here: the plan stands whatever a section imports."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    name: str  # a function of section.py
    seconds: float  # what it should take on an H100, with 15 for starting and compiling: reckoned, not measured


PLAN = (
    Section(name="ceilings", seconds=25),
    Section(name="correctness", seconds=35),
    Section(name="linear", seconds=35),
    Section(name="row_kernels", seconds=25),
    Section(name="head", seconds=95),
    Section(name="attention", seconds=25),
    Section(name="update_3b", seconds=80),
    Section(name="sync", seconds=35),
    Section(name="head_of_65536_rows", seconds=45),
    Section(name="accumulate", seconds=25),
    Section(name="update_7b", seconds=70),
    Section(name="head_profile", seconds=25),
    Section(name="graphs", seconds=25),
    Section(name="suite", seconds=90),
    Section(name="head_compiled", seconds=90),
)


def limit(section: Section, left: float) -> float:
    """Seconds after which a section is ended: some hang on a GPU, and those after it are worth more than its end."""
    return min(2 * section.seconds + 30, left)
