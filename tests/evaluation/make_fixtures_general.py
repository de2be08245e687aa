"""Writes the small files in the form of five published benchmarks: `python -m tests.evaluation.make_fixtures_general`.

Questions and pictures are our own; fields and their types are those of the published files.
"""

import json
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tests.evaluation.make_fixtures_math import FOLDER, IMAGE, picture

TEXT = pa.string()


def pictures(shown: int, places: int, seed: int) -> dict[str, Any]:
    """The fields image_1 .. of one record, the first of them with a picture."""
    return {f"image_{place}": picture(seed + place) if place <= shown else None for place in range(1, places + 1)}


def schema(*names: str, **others: pa.DataType) -> pa.Schema:
    """Texts, but for the others; these come in their place if they are named."""
    return pa.schema([(name, others.get(name, IMAGE if name.startswith("image_") else TEXT)) for name in names])


# --- OlympiadBench ---

_OLYMPIAD = [  # subject, subfield, question, final_answer, several, type, unit, error, context, pictures
    ("Maths", "Number Theory", "How many integers below 100 have exactly three divisors?", ["4"], False, "Numerical",
     None, None, None, 0),
    ("Maths", "Algebra", "Find all real $x$ with $x^2-7x+10=0$.", ["2,5"], True, "Numerical", None, None, None, 0),
    ("Maths", "Geometry", "What is the area of the triangle in <image_1>, with legs $3$ and $4$?", ["6"], False,
     "Numerical", None, None, None, 1),
    ("Maths", "Algebra", "For which $c$ has $x^2+cx+1$ two real zeros?", ["$(-\\infty,-2)\\cup(2,\\infty)$"], False,
     "Interval", None, None, None, 0),
    ("Maths", "Geometry", "Which circle has its centre at the origin and passes through $(1,0)$?", ["$x^{2}+y^{2}=1$"],
     False, "Equation", None, None, None, 0),
    ("Maths", "Number Theory", "Find all pairs $(a,b)$ of positive integers with $ab=3$.", ["$(1,3),(3,1)$"], True,
     "Tuple", None, None, None, 0),
    ("Maths", "Combinatorics", "Show that every tree with two vertices has a leaf.", None, False, None, None, None,
     None, 0),
    ("Physics", "Mechanics", "How fast is the ball when it leaves the ramp?", ["7.67"], False, "Numerical", "m/s",
     "1e-1", "A ball rolls from rest down a ramp of height 3 m, <image_1>.", 1),
    ("Physics", "Mechanics", "Give the energy of the mass at height $h$.", ["$\\frac{3 m g h}{2}$"], False,
     "Expression", None, None, "A mass $m$ moves at half its free-fall speed squared.", 2),
    ("Physics", "Optics", "Give the speed in the glass and the angle of refraction.", ["2.0e8,28.1"], True,
     "Numerical,Numerical", None, "1e6,1e-1", None, 0),
]  # fmt: skip


def olympiadbench() -> pa.Table:
    rows = []
    for number, row in enumerate(_OLYMPIAD, 1600):
        subject, subfield, question, answers, several, kind, unit, error, context, shown = row
        rows.append({
            "id": number, "question": question, "solution": ["Our own."], "final_answer": answers, "context": context,
            **pictures(shown, 9, number), "modality": "Multimodal" if shown else "Text-only",
            "difficulty": "Competition", "is_multiple_answer": several, "unit": unit, "answer_type": kind,
            "error": error, "question_type": "Open-ended" if answers else "Theorem proof", "subfield": subfield,
            "subject": subject, "language": "English",
        })  # fmt: skip
    texts = pa.list_(TEXT)
    names = ("id", "question", "solution", "final_answer", "context", *(f"image_{n}" for n in range(1, 10)), "modality",
             "difficulty", "is_multiple_answer", "unit", "answer_type", "error", "question_type", "subfield",
             "subject", "language")  # fmt: skip
    types = {"id": pa.int64(), "solution": texts, "final_answer": texts, "is_multiple_answer": pa.bool_()}
    return pa.Table.from_pylist(rows, schema(*names, **types))


# --- We-Math ---

_LENGTHS = "A. 12 cm;B. 14 cm;C. 16 cm;D. 24 cm; E. No correct answer"
_WEMATH = [  # family, key, knowledge concept, question, option, answer
    ("1", "2steps_1", "Properties of rectangles", "How long is the side AB?", "A. 3 cm; B. 4 cm; C. 7 cm", "A"),
    ("1", "2steps_2", "Perimeter", "AB is 3 cm, BC is 4 cm. What is the perimeter of ABCD?", _LENGTHS, "B"),
    ("1", "2steps_multi", "Perimeter", "What is the perimeter of the rectangle?", _LENGTHS, "B"),
    ("2", "2steps_1", "Units", "How many cm are 2 m?", "A. 20;B. 200;C. 2000;D. 2", "B"),
    ("2", "2steps_2", "Direction", "Where does the tree stand?", "A. north;B. north-east;C. east;D. south", "B"),
    ("2", "2steps_multi", "Position", "What stands 200 cm north-east?", "A. the tree;B. the well;C. the house", "A"),
    ("3", "3steps_1", "Circles", "What is the radius?", "A. 2;B. 3;C. 4;D. 6; E. No correct answer", "A"),
    ("3", "3steps_2", "Area", "What is the area of a disc of radius 2? (\u03c0 = 3.14)",
     "A. 6.28;B. 12.56;C. 3.14;D. 25.12", "B"),
    ("3", "3steps_3", "Fractions", "What part of it is grey?", "A. 1/2;B. 3/4;C. 1;D. 2", "B"),
    ("3", "3steps_multi", "Area", "What is the grey area? (\u03c0 = 3.14)", "A. 9.42;B. 6.28;C. 12.56", "A"),
]  # fmt: skip


def wemath() -> pa.Table:
    rows = [
        {"ID": family, "split": "testmini", "knowledge concept": concept, "question": question, "option": option,
         "answer": answer, "image_path": picture(100 + number), "key": key, "question number": number,
         "knowledge concept description": f"About: {concept}"}
        for number, (family, key, concept, question, option, answer) in enumerate(_WEMATH, 1)
    ]  # fmt: skip
    names = ("ID", "split", "knowledge concept", "question", "option", "answer", "image_path", "key", "question number",
             "knowledge concept description")  # fmt: skip
    return pa.Table.from_pylist(rows, schema(*names, **{"question number": pa.int64()}))


# --- MMMU ---

_MMMU = [  # subject, question, options, answer, pictures
    ("Biology", "What process does <image 1> show?", ["photosynthesis", "cell division", "fermentation", "osmosis"],
     "B", 1),
    ("Math", "What is the slope of the line in <image 1>?", ["$\\frac{1}{3}$", "$\\frac{1}{2}$", "$1$"], "B", 1),
    ("Design", "Which of them continues <image 1>?", ["<image 2>", "<image 3>"], "A", 3),
    ("Accounting", "What is the total in <image 1>, in dollars?", [], "24", 1),
    ("Clinical_Medicine", "Which organ does the arrow in <image 1> point at?", [], "kidney", 1),
    ("Electronics", "Give the current in <image 1>, in A.", [], "['24/7', '3.429']", 1),
]  # fmt: skip


def mmmu() -> pa.Table:
    rows = []
    for number, (subject, question, options, answer, shown) in enumerate(_MMMU, 1):
        rows.append({
            "id": f"validation_{subject}_{number}", "question": question, "options": str(options), "explanation": "",
            **pictures(shown, 7, 120 + 8 * number), "img_type": "['Diagrams']", "answer": answer,
            "topic_difficulty": "Easy" if number % 2 else "Hard",
            "question_type": "multiple-choice" if options else "open", "subfield": "Our own",
        })  # fmt: skip
    names = ("id", "question", "options", "explanation", *(f"image_{n}" for n in range(1, 8)), "img_type", "answer",
             "topic_difficulty", "question_type", "subfield")  # fmt: skip
    return pa.Table.from_pylist(rows, schema(*names))


# --- EMMA ---

_EMMA = [  # subject, category, task, question, options, answer, context, pictures
    ("Math", "Multi-hop Visual Object Counting", "", "How many cubes are in <image_1>?", ["3", "5", "7", "9", "11"],
     "C", None, 1),
    ("Math", "2D Transformation", "", "How many squares does <image_1> have?", None, "12", None, 1),
    ("Physics", "Path Tracing", "", "Which arrow shows the force in <image_1>?", ["<image_2>", "<image_3>"], "B",
     "A charge moves in a field.", 3),
    ("Coding", "Pie", "Code Choose Vis", "Which code draws <image_1>?", ["Code 1", "Code 2", "Code 3"], "B", None, 1),
    ("Chemistry", "Structure Recognition", "Knowledge-based counting", "How many rings has <image_1>?", None, "3",
     "none", 1),
    ("Math", "3D Spatial Simulation", "", "How long is the diagonal in <image_1>?", ["$\\sqrt{12}$", "3", "4"], "A",
     None, 1),
]  # fmt: skip


def emma() -> pa.Table:
    rows = []
    for number, (subject, category, task, question, options, answer, context, shown) in enumerate(_EMMA, 1):
        rows.append({
            "pid": f"{subject.lower()}_{number}", "question": question, "options": options, "answer": answer,
            **pictures(shown, 5, 180 + 6 * number), "solution": None, "subject": subject, "task": task,
            "category": category, "source": "Newly annotated",
            "type": "Multiple Choice" if options else "Open-ended", "context": context,
        })  # fmt: skip
    names = ("pid", "question", "options", "answer", *(f"image_{n}" for n in range(1, 6)), "solution", "subject",
             "task", "category", "source", "type", "context")  # fmt: skip
    return pa.Table.from_pylist(rows, schema(*names, options=pa.list_(TEXT)))


# --- MMK12 ---

_FORCES = "\nA. 2 N\nB. 4 N\nC. 6 N\nD. 8 N"
_MMK12 = [  # subject, question, answer
    ("physics", f"As shown in the figure, a block is pulled. How large is the pull?{_FORCES}", "C"),
    (
        "math",
        "As shown in the figure, how large is angle A?\nA. $$30^\\circ$$\nB. $$45^\\circ$$\nC. $$60^\\circ$$",
        "A",
    ),
    ("chemistry", "Which of the gases in the figure is heavier than air?\nA. $$H_2$$\nB. $$CO_2$$\nC. $$He$$", "B"),
    ("biology", "What does the structure marked 1 do?\nA. It digests\nB. It breathes\nC. It grows", "A"),
    ("physics", "Which of the four curves in the figure is right?", "B"),
    ("biology", "Which statements are right?\nA. one\nB. two\nC. three\nD. four", "ABD"),
]
_K12 = [  # question, answer
    ("As shown in the figure, find angle A.", "$$35^{\\circ}$$"),
    ("What part of the disc is grey?", "3/4"),
]


def mmk12() -> pa.Table:
    rows = [
        {"id": f"{subject}-{number}", "question": question, "image": picture(230 + number), "answer": answer,
         "subject": subject}
        for number, (subject, question, answer) in enumerate(_MMK12, 1)
    ]  # fmt: skip
    return pa.Table.from_pylist(rows, schema("id", "question", "image", "answer", "subject", image=IMAGE))


def k12() -> list[dict[str, str]]:
    """The older file: an array of records."""
    return [
        {"id": f"k12-{number}", "question": question, "answer": answer, "image_path": f"images/{number}.png"}
        for number, (question, answer) in enumerate(_K12, 1)
    ]


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for make in (olympiadbench, wemath, mmmu, emma, mmk12):
        pq.write_table(make(), FOLDER / f"{make.__name__}.parquet")
    (FOLDER / "k12.json").write_text(json.dumps(k12(), indent=1) + "\n")


if __name__ == "__main__":
    main()
