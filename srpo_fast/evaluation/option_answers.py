"""Multiple choice: writing options down, and finding the one that a model's text chooses.

An option is chosen by its letter, by its place ("the second option") or by its text or value, in the first of
final_statements' places that names an option at all. A place that names several, or denies one, leaves the choice
open: nothing is guessed from how similar texts look.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from string import ascii_uppercase

from srpo_fast.evaluation.benchmark import Item, Mark
from srpo_fast.evaluation.final_statements import final_statements
from srpo_fast.evaluation.marking import Pending
from srpo_fast.evaluation.number_answers import stated_number
from srpo_fast.grading import EXACT, Gold, Tolerance, Verdict
from srpo_fast.grading.answer_text import normalized, words
from srpo_fast.grading.choices import Options, letter_of, letters_of
from srpo_fast.grading.comparison import Comparison, squeezed
from srpo_fast.grading.quantities import quantity

MAX_FIRST_LINE = 60  # characters

_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")
_ORDINAL = re.compile(rf"\b({'|'.join(_ORDINALS)}) (?:option|choice|answer|alternative)\b", re.IGNORECASE)
_LETTER = re.compile(
    r"\( ?(?P<round>[A-Z]) ?\)|\b(?i:option|choice|answer|alternative|choose|select|pick):? \(?(?P<named>[A-Z])\b(?!')"
    r"|\b(?i:figure|picture|graph|diagram|image|shape|net|pattern|statement) \(?(?P<shown>[A-Z])\b(?!')"
    r"|\b(?:(?i:it)'s|go with|opt for) \(?(?P<taken>[A-Z])\b(?!')"
    r"|\b(?i:option|choice) (?P<small>[a-j])(?![\w'])"
    r"|(?<![\w'$\\])(?P<praised>[A-Z])\)? (?:is|seems|looks) (?:the )?(?:correct|right|best|answer)\b"
)
_LABELS = re.compile(r"(?<![\w.])\(?([A-Z])(?:\)|[.:](?= ))")  # several options with their texts
_RUN = re.compile(  # no points of a drawing
    r"(?:^|\b(?i:options?|choices?|answers?|letters?|both|either|choose|select|are|is|with)|'s|:) ?"
    r"(?P<letters>\(?[A-Z]\)?(?:(?:,|,? and|,? or| ?&) ?\(?[A-Z]\)?)+)(?![\w'])"
)
_RULED_OUT = re.compile(
    r"(?<!\w)[A-Z]\)? (?:is|was|can be|must be) (?:too|wrong|incorrect|false|invalid|ruled out|eliminated|excluded)\b"
)
_HEAD = re.compile(  # B, since ..
    r"(?:option )?\(?(?P<head>[A-Z])\)?(?=[,;]| - | \(| (?:since|because|as|for|where|which|with)\b)"
    r"(?![,;]? ?(?:or |and )?\(?[A-Z]\b)"
)
_IN_PARENTHESES = re.compile(r"\( ?([A-Z]) ?\)")
_LONE_LETTER = re.compile(
    r"(?<![\w'\\-])([B-HJ-Z]|A(?! (?!because|since)[a-z])|(?<=igure )A)(?=[.,;:)!?*\s]|$)(?!'|\.\w)"
)
_NEGATION = re.compile(
    r"\b(?:not|never|neither|nor|cannot|except|unlike|rather than|instead of|none|wrong)\b|n't\b", re.I
)
_YES_OR_NO = re.compile(r"(yes|no|true|false)(?=[,.;:!])", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Choice:
    letters: str  # in the alphabet's order; more than one only where several are asked for
    rule: str


def lettered(texts: Sequence[str]) -> Options:
    """Options with the letters A, B, .. in order."""
    return tuple(zip(ascii_uppercase, texts, strict=False))


def option_lines(texts: Sequence[str], form: str = "({}) {}") -> str:
    """The options one a line. form: of a letter and a text."""
    return "\n".join(form.format(letter, text) for letter, text in lettered(texts))


def chosen_option(text: str, options: Options, *, several: bool = False) -> Choice | None:
    """The option that the text chooses; None if it names none, or is of several minds.

    several: more than one may be asked for, and all that are named are the choice.
    """
    if several and len(text) <= MAX_FIRST_LINE and (all_letters := letters_of(normalized(text), options)):
        return Choice("".join(sorted(all_letters)), "option letters, whole text")
    for statement in final_statements(text):
        letters, how = _named(statement.text, options)
        if letters:
            is_one = len({dict(options).get(letter) or letter for letter in letters}) == 1
            named = sorted(letters) if several else min(letters)
            return Choice("".join(named), f"option {how}, {statement.place}") if is_one or several else None
        if how == "denied":
            return None
    return _first_line(text, options)


def last_named_option(text: str, options: Options) -> Choice | None:
    """The option named last anywhere in the text: in parentheses if any is, else by a lone letter, else by its text.

    MMMU's convention for texts that do not say which letter is their answer. "A" before a word, and "I", are words.
    """
    known = {letter for letter, _ in options}
    for pattern, how in ((_IN_PARENTHESES, "letter in parentheses"), (_LONE_LETTER, "lone letter")):
        found = [letter for letter in pattern.findall(text) if letter in known]
        if found:
            return Choice(found[-1], f"last {how}")
    for form in (str.casefold, lambda written: f" {words(normalized(written))} "):
        said, forms = form(text), {letter: form(option) for letter, option in options if option.strip()}
        places = {letter: _last_place(wording, said) for letter, wording in forms.items()}
        last = max(places, key=lambda letter: places[letter], default=None)
        if last and places[last] >= 0:
            return Choice(last, "last option text")
    return None


def read_option(item: Item, text: str, *, tolerance: Tolerance = EXACT, if_open: bool | None) -> Mark | Pending:
    """What becomes of an answer to an item with options. if_open: of one that names no option.

    What such an answer states may still be the value of one option and of no other, within the tolerance.
    """
    options = lettered(item.options)
    if choice := chosen_option(text, options, several=len(item.gold) > 1):
        return mark_of_choice(item, choice)
    pairs = tuple(
        (statement.text, Gold(text=letter, options=options, tolerance=tolerance))
        for statement in final_statements(text)
        for letter, _ in options
    )

    def settle(verdicts: Sequence[Verdict]) -> Mark:
        right = [pair for pair, verdict in zip(pairs, verdicts, strict=True) if verdict is Verdict.RIGHT]
        if len({gold for _, gold in right}) != 1:
            return Mark(is_right=if_open, extracted="", rule="no option named")
        said, gold = right[0]
        return replace(mark_of_choice(item, Choice(gold.text, "value of an option")), extracted=said)

    return Pending(pairs, settle)


def mark_of_choice(item: Item, choice: Choice) -> Mark:
    """Right if the letters are the gold's, or stand for the very same texts."""
    texts = {letter: text for letter, text in lettered(item.options) if text}
    is_right = [texts.get(letter, letter) for letter in choice.letters] == [texts.get(g, g) for g in sorted(item.gold)]
    return Mark(is_right=is_right, extracted=choice.letters, rule=choice.rule)


def _named(statement: str, options: Options) -> tuple[frozenset[str], str]:
    """The letters of the options that a statement names, and how; none and "denied" where it only denies."""
    said = normalized(statement)
    known = {letter for letter, _ in options}
    if (head := _HEAD.match(said)) and head["head"] in known:
        return frozenset((head["head"],)), "letter"
    if len(labels := known & set(_LABELS.findall(said))) > 1:
        return frozenset(labels), "letters"
    if _RULED_OUT.search(said):
        return frozenset(), "denied"
    if letter := letter_of(said, options):
        return frozenset((letter,)), "letter"
    if several := letters_of(said, options):
        return several, "letters"
    if equal := _same_value(said, options):
        return equal, "text"
    if (run := _RUN.search(said)) and (several := known & set(re.findall("[A-Z]", run["letters"]))):
        return frozenset(several), "letters"
    letters = frozenset(found for match in _LETTER.finditer(said) if (found := _letter_in(match)) in known)
    ordinals = [_ORDINALS.index(match[1].casefold()) for match in _ORDINAL.finditer(said)]
    letters |= {options[place][0] for place in ordinals if place < len(options)}
    texts = frozenset() if letters else _texts_in(said, options)
    own = max((len(_NEGATION.findall(_normal_forms(options)[letter])) for letter in texts), default=0)
    if (letters or texts) and len(_NEGATION.findall(said)) > own:
        return frozenset(), "denied"
    return (letters, "letter") if letters else (texts, "text")


def _first_line(text: str, options: Options) -> Choice | None:
    """The option of a text that begins with its answer, explains it, and ends without repeating it."""
    line = text.strip().partition("\n")[0]
    if yes_or_no := re.match(r"\W*(?:yes|no|true|false)(?=[.!,])", line, re.IGNORECASE):
        line = yes_or_no[0]
    letters, how = _named(line, options) if len(line) <= MAX_FIRST_LINE else (frozenset(), "")
    return Choice(min(letters), f"option {how}, first line") if len(letters) == 1 else None


def _last_place(wording: str, said: str) -> int:
    """Where a text stands last that is no part of a longer word or number; -1 if nowhere."""
    found = said.rfind(wording)
    while found >= 0:
        before, after = said[max(found - 1, 0) : found], said[found + len(wording) : found + len(wording) + 2]
        if not (before.isalnum() or after[:1].isalnum() or (after[:1] in (".", ",") and after[1:].isdigit())):
            return found
        found = said.rfind(wording, 0, found + len(wording) - 1)
    return -1


def _letter_in(match: re.Match[str]) -> str:
    return next(letter for letter in match.groups() if letter).upper()


def _same_value(said: str, options: Options) -> frozenset[str]:
    """The options whose text or value a statement is; of several, the one written the same way."""
    texts = _normal_forms(options)
    if head := _YES_OR_NO.match(said):
        said = head[1]
    comparison = Comparison(lambda answer, gold, tolerance: None)
    equal = [letter for letter, text in texts.items() if text and comparison.equal(said, text)]
    same = [letter for letter in equal if squeezed(texts[letter]) == squeezed(said)]
    if equal or not any(character.isdigit() for character in said):
        return frozenset(same or equal)
    numbers = {letter: number for letter, text in texts.items() if (number := quantity(text))}
    stated = stated_number(said) if len(numbers) == len(options) else None
    return frozenset(letter for letter, number in numbers.items() if stated and stated.is_near(number, EXACT))


def _texts_in(said: str, options: Options) -> frozenset[str]:
    """The options whose whole text a sentence contains, and not only as part of another's."""
    sentence, found = f" {words(said)} ", set()
    for letter, wording in sorted(_wordings(options).items(), key=lambda option: -len(option[1])):
        if wording in sentence:
            found.add(letter)
            sentence = sentence.replace(wording, " | ")
    return frozenset(found)


@lru_cache(maxsize=2**12)
def _normal_forms(options: Options) -> Mapping[str, str]:
    return {letter: normalized(text) for letter, text in options}


@lru_cache(maxsize=2**12)
def _wordings(options: Options) -> Mapping[str, str]:
    """What to look for in sentences: no letters, numbers, yes or no, which sentences hold for other reasons.

    Words stand between blanks, which Chinese has none of.
    """
    texts = {letter: words(text) for letter, text in _normal_forms(options).items() if not quantity(text)}
    return {
        letter: f" {text} " if text.isascii() or " " in text else text
        for letter, text in texts.items()
        if len(text) > 1 and text not in ("yes", "no", "true", "false")
    }
