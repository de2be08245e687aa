"""What a reflection may say of the ground truth: hand-made reflections, leaking and not."""

import time

import pytest

from srpo_fast.batch import Question
from srpo_fast.reflection.leaks import Leak, cites_key, holds_tags, leaks, states_answer

CHOICES = "Which shape has most sides?\n(A) triangle\n(B) hexagon\n(C) square\n(D) pentagon"
THINK = "The base is 8 and the height is 5, so I multiply them."


def states(gold: str, reflection: str, *, question: str = "How large is it?", think: str = THINK, answer: str = "40"):
    asked = Question(id="q", text=question, images=(), answer=gold)
    return states_answer(reflection, asked, think=think, answer=answer)


@pytest.mark.parametrize(
    ("gold", "reflection"),
    [
        # numbers, in any writing
        ("20", "The area of a triangle is half of that, 20."),
        ("20", "Halving gives 20.0 instead."),
        ("20", "Halving gives twenty: the answer should be twenty."),
        ("20", r"So it comes to $\boxed{20}$."),
        ("20.0", "It would be 20cm."),
        ("1200", "The sum of the rows is 1,200."),
        ("1,200", "The sum of the rows is $1{,}200$."),
        ("0.5", r"That makes $\frac{1}{2}$."),
        (r"\frac{1}{2}", "That makes 0.5 of it."),
        (r"$\dfrac{3}{4}$", "Only 3/4 remains."),
        ("1.5", r"Only $1\frac{1}{2}$ remains."),
        ("0.25", "This is 25% of the bar."),
        ("25%", r"This is 25\% of the bar."),
        ("-3", "On the number line it is minus 3."),
        ("-3", "On the number line it is \N{MINUS SIGN}3."),
        ("12 cm", "The ruler ends at 12 cm."),
        ("12 cm", "The ruler ends at 12 centimetres."),
        ("12 cm^2", "That makes 12 square centimetres."),
        ("30^\\circ", "The angle has only 30\N{DEGREE SIGN}."),
        # expressions and words
        (r"\frac{\sqrt{3}}{2}", r"The sine is $\sqrt{3}/2$ here."),
        (r"2\sqrt{5}", "The diagonal is 2\N{SQUARE ROOT}5."),
        (r"4\pi", "The area is 4\N{GREEK SMALL LETTER PI}."),
        ("2x+3", "Factoring leaves 2x + 3."),
        ("3:4", "They stand 3 : 4."),
        ("(2, 3)", "They cross at (2,3)."),
        ("isosceles triangle", "Two sides agree: an Isosceles\ntriangle."),
        ("Paris", "Look at the capital, Paris."),
        # choices
        ("B", "The answer is B."),
        ("B", "The answer should be (B), as it has six sides."),
        ("(B)", "Choose option B."),
        ("B.", "Counting sides shows that B is correct."),
        ("b", "The answer is b."),
        ("B", "So it is not C but B."),
        ("A", "The right choice is **A**."),
        ("yes", "The final answer should be yes."),
        # the question or the reasoning mention it, the reflection makes it the answer
        ("5", "The answer should be 5."),
        ("8", "The result is 8, not 40."),
    ],
)
def test_the_ground_truth_is_found(gold, reflection):
    assert states(gold, reflection, question=CHOICES if gold.strip("().") in "ABCD" else "How large is it?")


@pytest.mark.parametrize(
    ("gold", "reflection"),
    [
        # other numbers
        ("12", "The total is 120, of which 3.12 or 12.5 are of no use."),
        ("20", "Step 20 is not needed; see equation (20)."),
        ("2", "Two things are off.\n1. The height was misread.\n2. The area was not halved."),
        ("2", "(1) The base was misread. (2) Nothing was halved."),
        ("2", "Check the 2nd bar and 2x."),
        ("20", "The code x20 and the year 2020 are no lengths."),
        ("-3", "The height is 3, which was read upside down."),
        ("3", "The difference 7-5 and the slope -3 are mixed up."),
        ("1/2", "Both 1 and 2 were taken from the axis."),
        ("twelve", "There are 12 of them."),
        ("3", "There are three issues with this."),
        # other words and letters
        ("Paris", "A parish is no capital."),
        ("B", "Option B was never examined; B and C both deserve a look."),
        ("B", "The line AB meets B at a right angle."),
        ("B", "The answer is not B."),
        ("A", "A triangle was overlooked. The answer is a guess."),
        ("no", "There is no reason for the second step, so no conclusion follows."),
        ("yes", "The reasoning says yes without looking."),
        ("(2, 3)", "Points 2, 3 and 4 were skipped."),
        ("x", "The exponent was forgotten."),
        # known already
        ("8", "The base, 8, was read correctly, but nothing was halved."),
        ("7", "The 7 in the problem was overlooked."),
        ("", "Whatever."),
    ],
)
def test_what_is_no_statement_of_the_ground_truth_is_let_pass(gold, reflection):
    question = CHOICES if gold in ("A", "B") else "The 7 boxes are how large?"
    assert not states(gold, reflection, question=question)


@pytest.mark.parametrize(
    ("gold", "answer", "think", "reflection"),
    [
        ("40", "40", THINK, "Right: the answer is 40, and the first sentence could go."),
        ("40", r"$\boxed{40.0}$", THINK, "The result is 40."),
        ("B", "(B) hexagon", THINK, "The answer is B, as counted."),
        ("yes", "Yes.", THINK, "The answer is yes."),
        ("20", "40", "Half of 40 gives 20.", "The reasoning had 20; the answer should be 20."),
        ("20", "40", "8 * 5 / 2 = 20, or rather 40", "The result is 20 as computed."),
        ("B", "C", "So the answer is B.", "The reasoning concludes B: the answer should be B."),
    ],
)
def test_what_the_attempt_came_to_is_no_news(gold, answer, think, reflection):
    assert not states(gold, reflection, answer=answer, think=think)


@pytest.mark.parametrize(
    "reflection",
    [
        "The correct answer is larger.",
        "The correct answer should be 12.",
        "Since the right answer is a hexagon, a side was missed.",
        "The true value: 7.",
        "The correct option (B) was dismissed too early.",
        "Given the ground truth, the second step fails.",
        "The ground-truth says otherwise.",
        "This does not match the reference answer.",
        "According to the answer key the height was misread.",
        "The result contradicts the correct answer.",
        "It differs from the provided answer.",
        "The given correct answer shows that a factor is missing.",
        "Compared with the expected answer, it is twice as large.",
        "I was told the answer, so this must be off.",
        "The known answer is half of this.",
        "The predicted answer is too large compared to the actual result.",
        "The gold answer has no minus.",
        "Knowing the correct answer, one sees the slip.",
        "In the solution key there is a factor of two.",
    ],
)
def test_talk_of_a_known_answer_is_found(reflection):
    assert cites_key(reflection)


@pytest.mark.parametrize(
    "reflection",
    [
        "To reach the correct answer, halve the product.",
        "This leads to the correct answer only for rectangles.",
        "The correct answer is obtained by halving the product.",
        "The answer above is too large: a triangle is half a rectangle.",
        "The given answer choices were not compared.",
        "The answer should be checked against the picture.",
        "The expected value of the die was not used.",
        "The values given in the table were misread.",
        "The reference point of the ruler is not zero.",
        "The key step, halving, is missing.",
        "The provided figure shows a right angle.",
        "It is true that the result is positive.",
        "The expected answer format is a letter.",
        "Based on the given values, the slope is negative.",
    ],
)
def test_talk_of_answers_in_general_is_let_pass(reflection):
    assert not cites_key(reflection)


@pytest.mark.parametrize(
    ("text", "held"),
    [
        ("see <think>", True), ("</Reflection>", True), ("< / answer >", True), ("an <image> here", True),
        ("a < b > c", False), ("[think]", False), ("<b>bold</b>", False),
    ],
)  # fmt: skip
def test_tags_are_found(text, held):
    assert holds_tags(text) == held


def test_every_leak_has_its_code():
    question = Question(id="q", text="How large?", images=(), answer="20")
    text = "<think>The correct answer is 20."
    assert leaks(text, question, think=THINK, answer="40") == tuple(Leak)
    assert leaks("The product was not halved.", question, think=THINK, answer="40") == ()


@pytest.mark.parametrize(
    "text",
    ["{" * 20_000, r"\boxed{" * 5_000, "1 " * 20_000, "answer " * 10_000, "correct answer " * 5_000, "9" * 20_000],
)  # fmt: skip
def test_no_text_takes_long(text):  # from a teacher or in a gold
    question = Question(id="q", text=text, images=(), answer="20")
    start = time.process_time()
    leaks(text, question, think=text, answer="40")
    states(text, "short")
    assert time.process_time() - start < 20  # a quadratic pattern takes minutes
