"""`srpo data` on a small file in which every kind of trouble occurs."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import datasets
import pytest
from PIL import Image

from srpo_fast import cli
from srpo_fast.inspection.figures import answer_kind

EVIL = '<script>alert(1)</script> & "quoted" <|im_start|>'
BAD = {
    "line 2": "image_unreadable",  # a cut body
    "line 3": "image_missing",
    "line 4": "unreadable_record",
    "line 6": "bad_answer",
    "line 7": "image_aspect",
}


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    images = tmp_path / "images"
    images.mkdir()
    Image.effect_noise((112, 56), 80).convert("RGB").save(images / "good.png")
    whole = (images / "good.png").read_bytes()
    (images / "cut.png").write_bytes(whole[: len(whole) // 2])
    Image.new("RGB", (2, 800)).save(images / "strip.png")
    Image.new("RGB", (20, 20)).save(images / "small.png")
    lines = [
        {"id": "a", "question": "How many?", "image": "good.png", "answer": "1,204"},
        {"id": "b", "question": "How many?", "image": "cut.png", "answer": "2"},
        {"id": "c", "question": "How many?", "image": "nowhere.png", "answer": "3"},
        '{"id": "d", ',
        {"id": "a", "question": "How many?", "image": "good.png", "answer": "$\\boxed{B}$"},
        {"id": "f", "question": "How many?", "answer": ""},
        {"id": "g", "question": "How many?", "image": "strip.png", "answer": "5"},
        {"id": "h", "question": f"{EVIL} <image> or <image>?", "images": ["good.png", "small.png"], "answer": EVIL},
        {"id": "i", "question": "word " * 90, "answer": "\\frac{1}{2}"},
    ]
    path = tmp_path / "q.jsonl"
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
    return path


def run(*arguments: object) -> int:
    return cli.main(["data", *map(str, arguments)])


def command(name: str, data: Path, *options: object) -> int:
    return run(name, data, "--image-root", data.parent / "images", *options)


def test_check_finds_every_problem_and_says_where(data, capsys):
    out = data.parent / "bad.jsonl"
    assert command("check", data, "--out", out) == 2
    said = capsys.readouterr().out
    assert "9 records, 4 images decoded" in said
    assert "1 image_missing\n  line 3: image nowhere.png" in said
    assert "5 of 9 records cannot be used" in said
    written = [json.loads(line) for line in out.read_text().splitlines()]
    assert {line["place"]: line["reason"] for line in written} == BAD


def test_check_in_json(data, capsys):
    assert command("check", data, "--json") == 2
    found = json.loads(capsys.readouterr().out)
    assert (found["records"], found["images"], found["bad"]) == (9, 4, 5)
    assert found["reasons"] == dict.fromkeys(BAD.values(), 1)
    assert [problem["place"] for problem in found["problems"]] == sorted(BAD)


def test_check_of_a_good_file_is_silent_about_it(data, capsys):
    data.write_text(data.read_text().splitlines()[0])
    assert command("check", data) == 0
    assert "0 of 1 records cannot be used" in capsys.readouterr().out


def test_check_measures_prompts_in_a_models_tokens(data, untrained_model, capsys):
    arguments = ("--model", untrained_model, "--max-prompt-tokens", 120, "--json")
    assert command("check", data, *arguments) == 2
    problems = json.loads(capsys.readouterr().out)["problems"]
    assert [p["place"] for p in problems if p["reason"] == "prompt_too_long"] == ["line 9"]


def test_more_places_than_are_shown_are_counted(data, capsys):
    data.write_text("\n".join(["{"] * 8))
    assert command("check", data) == 2
    said = capsys.readouterr().out
    assert said.count("  line ") == 5
    assert "  and 3 more; --out lists them all" in said


def test_stats(data, capsys):
    assert command("stats", data, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["records"], found["questions"]) == (9, 5)  # a damaged body shows only when decoded
    assert found["answers"] == {"number": 2, "letter": 1, "LaTeX": 1, "text": 1}
    assert found["images_per_question"] == {"0": 1, "1": 3, "2": 1}
    assert found["image_pixels"] == {"min": 400, "median": 6272, "p90": 6272, "p99": 6272, "max": 6272}
    assert (found["images_enlarged"], found["images_shrunk"]) == (1, 0)
    assert found["prompt_words"]["max"] == 90
    assert found["prompts_by_words"] == {"<=2": 3, "<=8": 1, "<=128": 1}
    assert (found["repeated_ids"], found["repeated_questions"]) == (1, 1)


def test_stats_for_reading(data, untrained_model, capsys):
    assert command("stats", data, "--model", untrained_model) == 0
    said = capsys.readouterr().out
    assert re.search(r"answers +number 2, letter 1, LaTeX 1, text 1\n", said)
    assert re.search(r"prompt tokens +min \d+, median", said)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ("12", "number"), ("-3.50", "number"), ("1,000,000", "number"), (".5", "number"), ("1e-3", "number"),
        ("40%", "number"), ("$12$", "number"), ("$\\boxed{7}$", "number"), ("A", "letter"), ("(b)", "letter"),
        ("C.", "letter"), ("\\boxed{D}", "letter"), ("12 cm", "text"), ("yes", "text"), ("", "text"), ("%", "text"),
        ("1,00", "text"), ("\\frac{1}{2}", "LaTeX"), ("$x + 1$", "LaTeX"), ("x^2", "LaTeX"), ("$", "text"),
    ],
)  # fmt: skip
def test_kinds_of_answers(answer, kind):
    assert answer_kind(answer) == kind


class Tags(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))


def test_view_shows_questions_escaped_on_a_page_of_its_own(data, tmp_path, capsys):
    assert command("view", data, "--out", tmp_path / "page.html") == 0
    assert capsys.readouterr().out == f"{tmp_path / 'page.html'}\n"
    html = (tmp_path / "page.html").read_text()
    tags = Tags(html).found
    assert not [tag for tag, _ in tags if tag in ("script", "link", "iframe")]
    images = [attributes["src"] for tag, attributes in tags if tag == "img"]
    assert len(images) == 4
    assert all(source.startswith("data:image/png;base64,") for source in images)
    assert (
        "&lt;script&gt;alert(1)&lt;/script&gt; &amp; &quot;quoted&quot; &lt;|im_start|&gt; [image 1] or [image 2]"
        in html
    )
    for reason in BAD.values():
        assert f'rw">{reason}</span>' in html


def test_view_stops_at_the_limit(data, tmp_path):
    assert command("view", data, "--limit", 1, "--out", tmp_path / "page.html") == 0
    assert [tag for tag, _ in Tags((tmp_path / "page.html").read_text()).found].count("img") == 1


def test_convert_does_not_write_over_what_it_reads(data, capsys):
    before = data.read_bytes()
    assert command("convert", data, data) == 2
    assert "expected another file to write" in capsys.readouterr().err
    assert data.read_bytes() == before


def test_a_folder_that_is_not_there_is_made(data, tmp_path):
    assert command("convert", data, tmp_path / "new" / "folder" / "out.jsonl") == 0
    assert (tmp_path / "new" / "folder" / "out.jsonl").is_file()


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_convert_writes_what_check_finds_good(data, tmp_path, suffix, capsys):
    lines = data.read_text().splitlines()
    data.write_text("\n".join(line for line in lines if "cut.png" not in line))
    out = tmp_path / f"new.{suffix}"
    assert command("convert", data, out) == 0
    assert capsys.readouterr().out == f"{out}: 4 questions, 4 records left out\n"
    assert run("check", out) == 0
    assert "4 records, 4 images decoded" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["check", "nowhere.jsonl"], "expected a file of questions at nowhere.jsonl, found none"),
        (["convert", "nowhere.jsonl", "out.csv"], "expected a .jsonl or .parquet file to write, got out.csv"),
    ],
)
def test_mistakes_are_one_line(arguments, message, capsys):
    assert run(*arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {message}")
    assert error.count("\n") == 1


@pytest.mark.parametrize("number", ["0", "-1", "x", "1.5"])
def test_a_number_below_1_is_refused(number, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["data", "view", "q.jsonl", "--out", "x.html", "--limit", number])
    assert ended.value.code == 2
    assert f"expected a whole number of 1 or more, got '{number}'" in capsys.readouterr().err
