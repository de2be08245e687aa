"""Multiple choice: the options in a question's text, and the letter that an answer names."""

import re
from collections.abc import Sequence
from string import ascii_uppercase

from srpo_fast.grading.answer_text import normalized, words

Options = tuple[tuple[str, str], ...]  # letter, text

DEFAULT_LETTERS = "ABCDEFGHIJ"  # where the options are unknown

# --- in questions ---

_OPENING, _CLOSING = "(\N{FULLWIDTH LEFT PARENTHESIS}", ")\N{FULLWIDTH RIGHT PARENTHESIS}"
_STOP = ".\N{FULLWIDTH FULL STOP}\N{IDEOGRAPHIC FULL STOP}\N{IDEOGRAPHIC COMMA}"
_COLON = ":\N{FULLWIDTH COLON}"
_MARKER = re.compile(
    rf"(?<![^\s,;?!{_STOP}{_COLON}{_OPENING}{_CLOSING}])(?:[{_OPENING}](?P<round>[A-Z])[{_CLOSING}]"
    rf"|(?P<half>[A-Z])[{_CLOSING}]|(?P<dot>[A-Z])[{_STOP}](?![A-Z]\.)|(?P<colon>[A-Z])[{_COLON}])"
)
_HEADER = re.compile(r"\b(?:choices|options|answer choices)\s*[:\N{FULLWIDTH COLON}]\s*\Z", re.IGNORECASE)
_SENTENCE_END = f"\n?!;\N{FULLWIDTH QUESTION MARK}{_STOP}{_COLON}{_CLOSING}"
_NO_BLANK = re.compile(r"\S")
_JOINT = re.compile(r"(?:and|or|to|&|,|/|\s)*", re.IGNORECASE)


def options_in(question_text: str) -> Options:
    """The last run of options A, B, .. that a question lists, letters with texts; () if it lists none."""
    last, found = -1, ()
    for kind in ("round", "half", "dot", "colon"):
        markers = [marker for marker in _MARKER.finditer(question_text) if marker[kind]]
        for run in _runs(question_text, markers, kind):
            options = _read(question_text, run, kind)
            if options and run[0].start() > last:
                last, found = run[0].start(), options
    return found


def _runs(text: str, markers: Sequence[re.Match[str]], kind: str) -> list[list[re.Match[str]]]:
    """Markers in the alphabet's order from A on, as long as each run goes."""
    runs: list[list[re.Match[str]]] = []
    for marker in markers:
        if marker[kind] == "A" and (kind == "round" or _may_begin(text, marker.start())):
            runs.append([marker])
        elif runs and len(runs[-1]) < 26 and marker[kind] == ascii_uppercase[len(runs[-1])]:
            runs[-1].append(marker)
    return [run for run in runs if len(run) > 1]


def _read(text: str, run: Sequence[re.Match[str]], kind: str) -> Options:
    """The options of a run of markers; () where it is only the mention of some points or figures."""
    has_header = _has_header(text, run[0].start())
    starts_lines = all(_starts_line(text, marker.start()) for marker in run)
    if kind == "colon" and not (has_header or starts_lines):
        return ()
    if kind == "round" and len(run) < 3 and not (has_header or starts_lines or _may_begin(text, run[0].start())):
        return ()
    ends = [marker.start() for marker in run[1:]] + [_line_end(text, run[-1].end())]
    texts = [text[marker.end() : end].strip(" \t\n,;") for marker, end in zip(run, ends, strict=True)]
    if any(_JOINT.fullmatch(option) for option in texts) and (kind != "round" or any(texts)):
        return ()
    return tuple((marker[kind], option) for marker, option in zip(run, texts, strict=True))


def _has_header(text: str, place: int) -> bool:
    return _HEADER.search(text[max(0, place - 40) : place]) is not None


def _may_begin(text: str, place: int) -> bool:
    """Whether an option, not a word of a sentence, may stand here: after a line, a sentence or a header."""
    before = text[max(0, place - 40) : place].rstrip(" \t")
    return not before or before[-1] in _SENTENCE_END


def _starts_line(text: str, place: int) -> bool:
    while place and text[place - 1] in " \t":
        place -= 1
    return not place or text[place - 1] == "\n"


def _line_end(text: str, start: int) -> int:
    """The end of the first line from `start` on that is not blank."""
    first = _NO_BLANK.search(text, start)
    end = text.find("\n", first.start() if first else start)
    return len(text) if end < 0 else end


# --- in answers ---

_ALONE = re.compile(
    r"(?:(?:option|choice|point|figure|graph|image|picture|diagram) )?[(\[{]? ?([A-Za-z]) ?[)\]}]?[.:]?", re.IGNORECASE
)
_MARKED = re.compile(r"(?:\( ?([A-Za-z]) ?\)[.:,]?|([A-Za-z])(?:\)|[.:](?=[\s\d\\(-])))(?P<rest>.*)")
_CHOSEN = re.compile(
    r"(?i:(?:the |my )?(?:correct |right |best )?(?:option|choice|answer)(?: is| would be)?:?) ?"
    r"(?i:option |choice )?(?:\( ?([A-Z]) ?\)|([A-Z])(?![A-Za-z']))[.):,]?(?P<rest>.*)"
)
_PRAISED = re.compile(r"(?:\( ?([A-Z]) ?\)|([A-Z])) (?:is|would be) (?:the )?(?:correct|right|best|answer)(?P<rest>.*)")
_CONCLUDED = re.compile(
    r".*\b(?:is|option|choice|answer|choose|select|pick):? (?:option |choice )?(?:\( ?([A-Z]) ?\)|([A-Z]))(?P<rest>)"
)
_HEDGE = re.compile(r" ?(?:or|and|&|/|,) ?|.*\b(?:or|and) \(?[A-Z]\)?\.?$| ?\(?[A-J][).:]")
_NEGATION = re.compile(r"\bnot\b|n't\b|\bneither\b|\bexcept\b", re.IGNORECASE)
_BETWEEN_LETTERS = re.compile(r"[()\[\],;&\s]|and")


def letter_of(answer: str, options: Options) -> str | None:
    """The one letter that a normal form names; None if it names none, several, or none of the options'."""
    letters = "".join(letter for letter, _ in options) or DEFAULT_LETTERS
    letter = _letter(answer)
    if letter is None and answer[1:2] in (" ", ",", "-") and answer[0] in letters:
        own = [text for option, text in options if option == answer[0]]  # B 15 cm
        is_own = own and words(normalized(own[0])) == words(answer[1:].lstrip(" ,-"))
        letter = answer[0] if is_own else None
    return letter if letter and letter in letters else None


def letters_of(answer: str, options: Options) -> frozenset[str] | None:
    """Two or more of the options' letters, when they are all that a normal form says ("AC", "A and C")."""
    found = _BETWEEN_LETTERS.sub("", answer)
    letters = frozenset(found)
    if not 1 < len(found) == len(letters) <= 26 or not letters <= {letter for letter, _ in options}:
        return None
    return letters


def marked_text(answer: str) -> str:
    """The text after a leading marker, as in (B) 15 cm; empty without one."""
    marked = _MARKED.fullmatch(answer)
    return marked["rest"].strip() if marked else ""


def _letter(answer: str) -> str | None:
    if alone := _ALONE.fullmatch(answer):
        return alone[1].upper()
    if _NEGATION.search(answer):
        marked = _MARKED.fullmatch(answer)
        return (marked[1] or marked[2]).upper() if marked else None
    for form in (_MARKED, _CHOSEN, _PRAISED, _CONCLUDED):
        if named := form.fullmatch(answer):
            return None if named["rest"] and _HEDGE.match(named["rest"]) else (named[1] or named[2]).upper()
    return None
