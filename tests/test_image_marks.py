"""The marks of images, and how many there are."""

import pytest

from srpo_fast.bad_record import BadRecord
from srpo_fast.image_marks import MAX_IMAGES, images_in_words, require_few_images, without_marks


def test_one_image_is_no_plural():
    assert [images_in_words(number) for number in (0, 1, 2)] == ["0 images", "1 image", "2 images"]


def test_more_images_than_an_engine_makes_room_for_are_refused():
    require_few_images(MAX_IMAGES, "q: ")
    with pytest.raises(BadRecord, match=f"q: expected at most {MAX_IMAGES} images, got {MAX_IMAGES + 1}"):
        require_few_images(MAX_IMAGES + 1, "q: ")


def test_a_text_that_mentions_a_mark_has_none():
    assert "<image>" not in without_marks("put <image> here")
