from dataclasses import replace

import pytest
from PIL import Image

from srpo_fast.config import UserError
from srpo_fast.evaluation.directory import EvaluationDirectory, Said
from srpo_fast.evaluation.item_digests import digest_of, digest_of_all
from tests.evaluation.eval_case import item

QUESTION = replace(item("a"), images=("1.png",), options=("2", "3"))


@pytest.fixture
def root(tmp_path):
    (tmp_path / "1.png").write_bytes(b"one")
    (tmp_path / "2.png").write_bytes(b"two")
    return tmp_path


@pytest.mark.parametrize(
    "change",
    [{"id": "b"}, {"prompt": "say that"}, {"gold": ("left",)}, {"options": ("3", "2")}, {"images": ("2.png",)},
     {"images": ()}, {"images": (b"one",)}, {"images": ("1.png", "1.png")}],
)  # fmt: skip
def test_everything_an_answer_hangs_on_is_in_the_digest(change, root):
    assert digest_of(replace(QUESTION, **change), root) != digest_of(QUESTION, root)
    assert digest_of(replace(QUESTION), root) == digest_of(QUESTION, root)


def test_an_image_is_told_by_its_content_or_its_name_and_size(root):
    before = digest_of(QUESTION, root)
    (root / "1.png").write_bytes(b"another")
    assert digest_of(QUESTION, root) != before
    (root / "1.png").unlink()
    assert digest_of(QUESTION, root) != before
    red, blue = (replace(QUESTION, images=(Image.new("RGB", (2, 2), colour),)) for colour in ("red", "blue"))
    first, second = (replace(QUESTION, images=(content,)) for content in (b"1", b"2"))
    assert len({digest_of(each, root) for each in (red, blue, first, second)}) == 4


def test_data_may_move(root, tmp_path_factory):
    other = tmp_path_factory.mktemp("moved")
    (other / "1.png").write_bytes(b"one")
    absolute = replace(QUESTION, images=(str(other / "1.png"),))
    assert digest_of(QUESTION, other) == digest_of(absolute, root) == digest_of(QUESTION, root)


def test_the_order_of_items_counts_in_all(root):
    digests = [digest_of(item(name), root) for name in "ab"]
    assert digest_of_all(digests) != digest_of_all(digests[::-1])


def test_responses_to_other_items_are_refused_in_one_line(tmp_path):
    directory = EvaluationDirectory(tmp_path, {"weights": "w"})
    for name in ("a", "b"):
        directory.said.write(
            Said(id=name, text="x", is_finished=True, prompt_tokens=1, completion_tokens=1, asked=f"digest {name}")
        )
    directory.require_same_items({"a": "digest a", "c": "new"})  # a limit lower or higher than before is fine
    with pytest.raises(UserError, match=r"to other data: 1 of 3 items have changed .* the first is b;") as error:
        directory.require_same_items({"a": "digest a", "b": "digest c", "c": "new"})
    assert "\n" not in str(error.value)
    directory.close()
