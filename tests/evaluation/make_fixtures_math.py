"""Writes the small files in the form of four published benchmarks: `python tests/evaluation/make_fixtures_math.py`.

Questions and pictures are our own; fields and their types are those of the published files.
"""

import json
from io import BytesIO
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageDraw

FOLDER = Path(__file__).with_name("fixtures")
IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def picture(number: int) -> dict[str, Any]:
    """A triangle, another one for every number, as parquet files hold pictures."""
    image = Image.new("RGB", (96, 64), "white")
    draw = ImageDraw.Draw(image)
    draw.polygon([(8, 56), (88, 56), (16 + 7 * number % 64, 8)], outline="black")
    draw.text((4, 2), str(number), fill="navy")
    file = BytesIO()
    image.save(file, "PNG")
    return {"bytes": file.getvalue(), "path": f"{number}.png"}


# --- MathVista ---

_HINTS = {
    "text": "Hint: Give the letter of the right option at the end.",
    "integer": "Hint: Give a whole number at the end.",
    "float": "Hint: Give a decimal number at the end.",
    "list": "Hint: Give a Python list at the end.",
}
_MATHVISTA = [  # question, choices, unit, precision, answer, answer_type, task, skills
    ("Which bar is the tallest?", ["red", "blue", "dark blue", "green"], None, None, "dark blue", "text",
     "figure question answering", ["statistical reasoning"]),
    ("How many triangles are drawn?", None, None, None, "7", "integer", "math word problem", ["arithmetic reasoning"]),
    ("How long is AB?", None, "m", 1.0, "2.4", "float", "geometry problem solving",
     ["geometry reasoning", "numeric commonsense"]),
    ("How much do a pen and a cap cost?", None, "$", 2.0, "1.45", "float", "math word problem",
     ["arithmetic reasoning"]),
    ("Between which two years did the line rise most?", None, None, None, "[2007, 2008]", "list",
     "figure question answering", ["statistical reasoning"]),
    ("Is the left cube larger than the right one?", ["Yes", "No"], None, None, "No", "text",
     "visual question answering", ["logical reasoning"]),
    ("What is the size of angle A?", ["30\u00b0", "45\u00b0", "60\u00b0", "90\u00b0"], None, None, "60\u00b0", "text",
     "geometry problem solving", ["geometry reasoning"]),
    ("\u7535\u6d41\u5982\u4f55\u53d8\u5316\uff1f", ["\u589e\u5927", "\u51cf\u5c0f", "\u4e0d\u53d8"], None, None,
     "\u51cf\u5c0f", "text", "textbook question answering", ["scientific reasoning"]),
    ("By how much do the two towns differ?", None, "people", None, "1200", "integer", "math word problem",
     ["arithmetic reasoning"]),
    ("How long is the diagonal?", ["$2\\sqrt{3}$", "$3\\sqrt{2}$", "4", "6"], None, None, "$2\\sqrt{3}$", "text",
     "geometry problem solving", ["geometry reasoning", "algebraic reasoning"]),
]  # fmt: skip


def mathvista() -> pa.Table:
    rows = []
    for pid, (question, choices, unit, precision, answer, kind, task, skills) in enumerate(_MATHVISTA, 1):
        lines = [_HINTS[kind], f"Question: {question}" + (f" (Unit: {unit})" if unit else "")]
        if choices:
            lines += ["Choices:", *(f"({letter}) {text}" for letter, text in zip("ABCD", choices, strict=False))]
        metadata = {"category": "general-vqa", "context": "bar chart", "grade": "high school", "img_height": 64,
                    "img_width": 96, "language": "english", "skills": skills, "source": "own", "split": "testmini",
                    "task": task}  # fmt: skip
        rows.append({
            "pid": str(pid), "question": question, "image": f"images/{pid}.jpg", "decoded_image": picture(pid),
            "choices": choices, "unit": unit, "precision": precision, "answer": answer,
            "question_type": "multi_choice" if choices else "free_form", "answer_type": kind, "metadata": metadata,
            "query": "\n".join(lines),
        })  # fmt: skip
    text = pa.string()
    fields = [("pid", text), ("question", text), ("image", text), ("decoded_image", IMAGE), ("choices", pa.list_(text)),
              ("unit", text), ("precision", pa.float64()), ("answer", text), ("question_type", text),
              ("answer_type", text)]  # fmt: skip
    names = ("category", "context", "grade", "language", "source", "split", "task")
    metadata = [("img_height", pa.int64()), ("img_width", pa.int64()), ("skills", pa.list_(text))]
    struct = pa.struct([*((name, text) for name in names), *metadata])
    return pa.Table.from_pylist(rows, pa.schema([*fields, ("metadata", struct), ("query", text)]))


# --- MathVerse ---

_ANGLES = (
    "In triangle ABC, angle A is twice angle B. Find angle A.\nChoices:\nA:30\u00b0\nB:45\u00b0\nC:60\u00b0\nD:75\u00b0"
)
_MATHVERSE = [  # version, question (empty: only in the picture), question_for_eval, answer, subject, subfield
    ("Text Dominant", _ANGLES, _ANGLES, "C", "Plane Geometry", "Angle"),
    ("Vision Only", "", _ANGLES, "C", "Plane Geometry", "Angle"),
    ("Text Lite", "Write the range in interval notation.", "", "(-2,1]", "Functions", "Function"),
    ("Vision Intensive", "Find the distance d to one decimal place.", "", "22.3 m", "Plane Geometry", "Length"),
    ("Vision Dominant", "Find the equation of the parabola.", "", "y=x^2-2x-3", "Functions", "Expression"),
    ("Text Lite", "Which lines are parallel?\nChoices:\nA:line p\nB:line q\nC:line r\nD:line s", "", "C\nD",
     "Plane Geometry", "Applied"),
    ("Text Lite", "How long is the edge?", "", "0.5 m", "Solid Geometry", "Length"),
    ("Text Lite", "What part of the disc is grey?", "", "\\frac{1}{3}", "Plane Geometry", "Area"),
    ("Text Dominant", "Is the relation a function?\nChoices:\nA:This is a function\nB:This is not a function", "", "B",
     "Functions", "Property"),
    ("Text Lite", "Find the area of the sector.", "", "6\\pi", "Plane Geometry", "Area"),
]  # fmt: skip


def mathverse() -> pa.Table:
    rows = []
    for index, (version, question, full, answer, subject, subfield) in enumerate(_MATHVERSE, 1):
        full = full or question
        kind = "multi-choice" if "Choices:" in full else "free-form"
        asked = "Reason first, then end with the answer, e.g., Answer: xxx"
        rows.append({
            "sample_index": str(index), "problem_index": str((index + 1) // 2), "problem_version": version,
            "question": question, "image": picture(20 + index), "answer": answer, "question_type": kind,
            "metadata": {"split": "testmini", "source": "own", "subject": subject, "subfield": subfield},
            "query_wo": f"Answer directly.\nQuestion: {question}".removesuffix("\nQuestion: "),
            "query_cot": f"{asked}\nQuestion: {question}".removesuffix("\nQuestion: "), "question_for_eval": full,
        })  # fmt: skip
    text = pa.string()
    metadata = pa.struct([(name, text) for name in ("split", "source", "subject", "subfield")])
    names = ("sample_index", "problem_index", "problem_version", "question")
    queries = [(name, text) for name in ("query_wo", "query_cot", "question_for_eval")]
    schema = [*((name, text) for name in names), ("image", IMAGE), ("answer", text), ("question_type", text),
              ("metadata", metadata), *queries]  # fmt: skip
    return pa.Table.from_pylist(rows, pa.schema(schema))


# --- MATH-Vision ---

_MATHVISION = [  # question, options, answer, level, subject
    ("How many squares are in the picture? <image1>", ["12", "15", "18", "21", "24"], "C", 1, "counting"),
    ("Which figure can be folded to the cube? <image1>", list("ABCDE"), "D", 2, "solid geometry"),
    ("How many paths lead from <image1> to <image2>?", [], "14", 3, "combinatorics"),
    ("What is the area of the shaded region? <image1>", [], "8\\pi", 5, "metric geometry - area"),
    ("What part of the square is grey? <image1>", [], "\\frac{3}{4}", 4, "metric geometry - area"),
    ("How long is AC? <image1>", ["$\\sqrt{2}$", "$2 \\sqrt{2}$", "$\\frac{\\sqrt{2}}{2}$", "$4$", "$5$"], "C", 3,
     "metric geometry - length"),
    ("Where do the lines meet? <image1>", [], "(3,4)", 5, "analytic geometry"),
    ("How many degrees has the angle? <image1>", [], "60", 2, "metric geometry - angle"),
    ("What is the radius? <image1>", [], "2.36", 5, "metric geometry - length"),
    ("Who is the tallest? <image1>", ["Ana", "Ben", "Cem", "Dora", "Eva"], "B", 1, "logic"),
]  # fmt: skip


def mathvision() -> pa.Table:
    rows = [
        {"id": str(number), "question": question, "options": options, "image": f"images/{number}.jpg",
         "decoded_image": picture(40 + number), "answer": answer, "solution": None, "level": level, "subject": subject}
        for number, (question, options, answer, level, subject) in enumerate(_MATHVISION, 1)
    ]  # fmt: skip
    text = pa.string()
    schema = [("id", text), ("question", text), ("options", pa.list_(text)), ("image", text), ("decoded_image", IMAGE),
              ("answer", text), ("solution", text), ("level", pa.int64()), ("subject", text)]  # fmt: skip
    return pa.Table.from_pylist(rows, pa.schema(schema))


# --- MMMU-Pro ---

_PAINTERS = ["Monet", "Renoir", "Degas", "C\u00e9zanne", "Manet", "Seurat", "van Gogh", "Gauguin", "Pissarro", "Sisley"]
_SUMS = ["$10", "$12", "$15", "$18", "$20", "$25", "$30", "$36", "$42", "$50"]
_MOLECULES = [
    "DNA",
    "RNA",
    "A protein",
    "A lipid",
    "Glucose",
    "Starch",
    "Water",
    "Glycogen",
    "Insulin",
    "None of these",
]
_MMMU_PRO = [  # subject, question, options, answer
    ("Art_Theory", "Who painted <image 1>?", _PAINTERS, "D"),
    ("Design", "Which figure continues the row <image 1>?", ["<image 2>", "<image 3>", "<image 2> turned"], "B"),
    ("Finance", "What is the present value in <image 1>? Use <image 1> and <image 2>.", _SUMS, "J"),
    ("Biology", "Which molecule does <image 1> show?", _MOLECULES, "A"),
    ("Biology", "Which molecule lowers the curve in <image 1>?", _MOLECULES, "I"),
    ("Math", "Which function is drawn in <image 1>?", ["$y=x$", "$y=x^2$", "$y=|x|$", "$y=\\sqrt{x}$"], "C"),
]  # fmt: skip


def mmmu_pro() -> pa.Table:
    rows = []
    for number, (subject, question, options, answer) in enumerate(_MMMU_PRO, 1):
        pictures = {f"image_{place}": picture(60 + 5 * number + place) if place <= 3 else None for place in range(1, 8)}
        rows.append({
            "id": f"test_{subject}_{number}", "question": question, "options": str(options), "explanation": "?",
            **pictures, "img_type": "['Diagrams']", "answer": answer, "topic_difficulty": "Medium", "subject": subject,
        })  # fmt: skip
    text = pa.string()
    names = [("id", text), ("question", text), ("options", text), ("explanation", text)]
    pictures = [(f"image_{place}", IMAGE) for place in range(1, 8)]
    rest = [("img_type", text), ("answer", text), ("topic_difficulty", text), ("subject", text)]
    return pa.Table.from_pylist(rows, pa.schema([*names, *pictures, *rest]))


def mmmu_pro_vision() -> pa.Table:
    rows = [
        {"id": f"test_{subject}_{number}", "image": picture(90 + number), "options": str(options), "answer": answer,
         "subject": subject}
        for number, (subject, _, options, answer) in enumerate(_MMMU_PRO[2:4], 3)
    ]  # fmt: skip
    text = pa.string()
    schema = [("id", text), ("image", IMAGE), ("options", text), ("answer", text), ("subject", text)]
    return pa.Table.from_pylist(rows, pa.schema(schema))


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for make in (mathvista, mathverse, mathvision, mmmu_pro, mmmu_pro_vision):
        pq.write_table(make(), FOLDER / f"{make.__name__}.parquet", compression="zstd", write_statistics=False)
    with (FOLDER / "mathvision.jsonl").open("w") as file:  # pictures as paths, as in the repository's own file
        for row in mathvision().drop_columns(["decoded_image"]).to_pylist()[:3]:
            file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
