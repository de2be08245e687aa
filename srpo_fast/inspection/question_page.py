"""Questions as one HTML page that needs nothing but itself, in the look of a run's report."""

from html import escape

from srpo_fast.bad_record import BadRecord, Problem
from srpo_fast.batch import Question
from srpo_fast.dataset import QuestionFile
from srpo_fast.image_marks import IMAGE_MARK
from srpo_fast.monitor.report import page, section
from srpo_fast.monitor.samples import encode_png

SHOWN_PROBLEMS = 100


def question_page(questions: QuestionFile, limit: int) -> str:
    """The first `limit` questions with their images and answers, and the records that cannot be used."""
    shown = min(limit, len(questions))
    cards = "".join(_card(questions, index) for index in range(shown))
    problems = "".join(_problem(problem) for problem in questions.problems[:SHOWN_PROBLEMS])
    hidden = len(questions.problems) - SHOWN_PROBLEMS
    more = f'<p class="caption">and {hidden:,} more</p>' if hidden > 0 else ""
    body = (
        f'<header><p class="eyebrow">srpo-fast data</p><h1>{escape(questions.path.name)}</h1>'
        f'<p class="facts">{questions.num_records:,} records &middot; {len(questions):,} questions &middot; '
        f"{shown:,} shown</p></header>"
    )
    body += section("Questions", cards) + section("Records that cannot be used", problems and problems + more)
    return page(questions.path.name, body)


def _card(questions: QuestionFile, index: int) -> str:
    place = questions.place(index)
    try:
        question = questions[index]
    except BadRecord as error:
        return _problem(error.at(questions.id(index), place))
    images = "".join(
        f'<img src="data:image/png;base64,{encode_png(image)}" alt="image {number} of {escape(question.id)}">'
        f'<p class="source">{image.width} x {image.height}{_file(question, number - 1)}</p>'
        for number, image in enumerate(question.images, 1)
    )
    return (
        f'<article class="card"><div class="prompt">{images}</div><div class="written">'
        f'<p class="verdict"><span class="outcome rr">{escape(question.id)}</span>'
        f'<span class="length">{escape(place)}</span></p>'
        f'<div class="block think"><span class="tag">question</span><pre>{_numbered(question.text)}</pre></div>'
        f'<div class="block answer"><span class="tag">answer</span><pre>{escape(question.answer)}</pre></div>'
        "</div></article>"
    )


def _file(question: Question, index: int) -> str:
    file = question.image_files[index]
    return "" if file is None else f" &middot; {escape(file.name)}"


def _numbered(text: str) -> str:
    """The text with the places of several images numbered; one needs no number."""
    first, *rest = text.split(IMAGE_MARK)
    marks = [f"[image {number}]" if len(rest) > 1 else "[image]" for number in range(1, len(rest) + 1)]
    return escape(first + "".join(mark + part for mark, part in zip(marks, rest, strict=True)))


def _problem(problem: Problem) -> str:
    return (
        f'<article class="card"><div class="prompt"><p class="question">{escape(problem.id)}</p>'
        f'<p class="source">{escape(problem.place)}</p></div><div class="written">'
        f'<p class="verdict"><span class="outcome rw">{problem.reason}</span></p>'
        f'<div class="block stray"><span class="tag">reason</span><pre>{escape(problem.message)}</pre></div>'
        "</div></article>"
    )
