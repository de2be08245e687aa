import pytest

from srpo_fast.evaluation.benchmark import Item
from srpo_fast.evaluation.marking import marks_of
from srpo_fast.evaluation.option_answers import chosen_option, last_named_option, lettered, option_lines, read_option

LENGTHS = lettered(("3 cm", "4 cm", "5 cm", "cannot be determined"))
NAMES = lettered(("Paris", "New Paris", "Rome"))
ANSWERS = lettered(("Yes", "No"))
TWINS = lettered(("7", "8", "7"))


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("B", "B"), ("(b)", "B"), ("b.", "B"), (r"\boxed{\text{B}}", "B"), (r"\boxed{4}", "B"), ("**Answer: B**", "B"),
        ("First, A is too small. C is wrong. Therefore, the correct option is B.", "B"),
        ("The answer is B, not C.", "B"),
        ("The correct answer is\n\nB. 4 cm", "B"), ("I think it's the second option.", "B"), ("so x=4", "B"),
        ("The answer is C. Wait, that is wrong. The answer is B.", "B"), ("B, since 2 + 2 = 4", "B"),
        (r"The area is \boxed{7.9}. So the closest option is (B).", "B"), ("I choose B because it fits.", "B"),
        ("It cannot be determined.", "D"), ("The length is 4 cm, as shown.", "B"), ("\u6545\u9009\uff1aB.", "B"),
        ("La respuesta correcta es B.", "B"), ("Die Antwort ist (B).", "B"),
        ("The answer is B because C is wrong", "B"),
        ("B or C", None), ("The answer is B or C.", None), ("not B", None), ("The length can't be 4 cm.", None),
        ("Option B is too small.", None), ("E", None), ("Sorry, I can't help with that.", None), ("6 cm", None),
        ("4 m", None), ("The 4 sides sum to 6.", None), ("A and B", None), ("", None), ("It's B or C.", None),
    ],
)  # fmt: skip
def test_an_option_is_chosen_or_left_open(text, letter):
    choice = chosen_option(text, LENGTHS)
    assert (choice and choice.letters) == letter


@pytest.mark.parametrize(
    ("options", "text", "letter"),
    [
        (NAMES, "It is New Paris.", "B"), (NAMES, "The tallest tower is in Paris", "A"), (NAMES, "Rome or Paris", None),
        (NAMES, "not Rome", None), (ANSWERS, "No, it is not.", "B"), (ANSWERS, "There is no doubt.", None),
        (ANSWERS, "The answer is no.", "B"), (TWINS, "It is 7", "A"), (lettered(("", "7")), "A and B", None),
        (lettered("ABCDE"), "D", "D"),
    ],
)  # fmt: skip
def test_texts_of_options_are_found_in_sentences(options, text, letter):
    choice = chosen_option(text, options)
    assert (choice and choice.letters) == letter


def test_several_letters_count_only_where_several_are_asked_for():
    assert chosen_option("A and C", LENGTHS) is None
    choice = chosen_option("The correct answers are: A and C", LENGTHS, several=True)
    assert choice
    assert choice.letters == "AC"
    assert chosen_option("the line through A and C", LENGTHS, several=True) is None


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("I see (A), then (C). A line follows", "C"), ("B is far, D is near", "D"), ("A dog. I think so", None),
        ("I compared 3 cm and this one cannot be determined here", "D"), ("I", None),
        ("A. It is", "A"), ("nothing", None),
    ],
)  # fmt: skip
def test_the_last_named_option(text, letter):
    choice = last_named_option(text, LENGTHS)
    assert (choice and choice.letters) == letter


def test_options_are_written_one_a_line():
    assert option_lines(["x", "y"]) == "(A) x\n(B) y"
    assert option_lines(["x", "y"], "{}. {}") == "A. x\nB. y"


def test_values_of_options_are_compared_symbolically_in_one_call(grader):
    item = Item(id="1", prompt="", images=(), gold=("A",), options=(r"2\sqrt{3}", r"3\sqrt{2}"))
    several = Item(id="2", prompt="", images=(), gold=("A", "C"), options=("1", "2", "3"))
    twins = Item(id="3", prompt="", images=(), gold=("A",), options=("7", "8", "7"))
    answers = [(item, r"\boxed{\sqrt{12}}"), (item, r"\boxed{\sqrt{18}}"), (item, "A or B"), (item, "B"),
               (several, "A, C"), (several, "A"), (several, "A, B, C"), (twins, "C"), (twins, "B")]  # fmt: skip
    marks = marks_of(answers, grader, lambda item, text: read_option(item, text, if_open=None))
    assert [mark.is_right for mark in marks] == [True, False, None, False, True, False, False, True, False]
    assert [mark.extracted for mark in marks[:4]] == [r"\sqrt{12}", r"\sqrt{18}", "", "B"]
