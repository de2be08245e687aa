"""The mark that stands for an image in a text: one for every image, in order."""

from srpo_fast.bad_record import BadRecord

IMAGE_MARK = "<image>"
MAX_IMAGES = 8  # of a question: an engine with a vision tower makes room for so many
_PLAIN = "< image>"  # reads the same and means nothing


def images_in_words(number: int) -> str:
    return "1 image" if number == 1 else f"{number} images"


def require_few_images(number: int, question: str) -> None:
    """Raises BadRecord when a question has more than MAX_IMAGES."""
    if number > MAX_IMAGES:
        raise BadRecord(
            "too_many_images",
            f"{question}expected at most {MAX_IMAGES} images, got {number}; leave it out, or split it",
        )


def without_marks(text: str) -> str:
    """`text` in which what looks like a mark is none: for words that only mention one."""
    return text.replace(IMAGE_MARK, _PLAIN)
