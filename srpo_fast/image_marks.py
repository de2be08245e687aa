"""The mark that stands for an image in a text: one for every image, in order."""

IMAGE_MARK = "<image>"
_PLAIN = "< image>"  # reads the same and means nothing


def without_marks(text: str) -> str:
    """`text` in which what looks like a mark is none: for words that only mention one."""
    return text.replace(IMAGE_MARK, _PLAIN)
