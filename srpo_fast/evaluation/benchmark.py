"""What a benchmark is to the rest: where its items are, how they are asked, marked and summed up."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from srpo_fast.grading.grader import Grader
from srpo_fast.images import ImageSource


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One question of a benchmark, as its authors ask it."""

    id: str
    prompt: str  # the user's turn: one "<image>" mark for every image, in order
    images: tuple[ImageSource, ...]  # decoded only when a model is asked
    gold: tuple[str, ...]  # the answer, or all of several that are asked for
    options: tuple[str, ...] = ()  # the texts of A, B, ... in order; () when the answer is free
    answer_type: str = ""  # the benchmark's own word: "integer", "list", "multi-choice", ...
    tags: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # breakdown -> this item's values in it
    details: Mapping[str, Any] = field(default_factory=dict)  # what else its marking reads: precision, unit, ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """What became of one answer."""

    is_right: bool | None  # None: the benchmark asks a judge, and none has decided
    extracted: str  # what was taken for the answer; "" when nothing was
    rule: str  # which rule took and decided it, in a few words: "option letter", "number, 2 decimals", "judge"


Answer = tuple[Item, str]  # an item, and the text in which its answer is to be found
Marker = Callable[[Sequence[Answer], Grader], list[Mark]]
MarkedItem = tuple[Item, Mark]


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeTask:
    """The question to a judge about one answer that rules cannot decide, and how to read what it says."""

    system: str
    user: str
    read: Callable[[str], Mark | None]  # None: the reply says nothing usable


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """One benchmark, as its own paper and official scorer define it."""

    name: str  # on the command line
    title: str  # in tables
    hub_id: str | None  # of the published data set; None: there is none
    splits: tuple[str, ...]  # that can be asked for, the default first
    items: Callable[[Iterator[Mapping[str, Any]], str], Iterator[Item]]  # records of a file, split -> items
    mark: Marker
    judge: Callable[[Item, str], JudgeTask] | None = None  # for answers marked None; None: rules decide everything
    figures: Callable[[Sequence[MarkedItem]], dict[str, float]] | None = None  # beyond accuracy overall and by tag
    # (config, split) of a published part, the split asked for -> is it read? None: config or split has that name
    reads: Callable[[str, str, str], bool] | None = None
