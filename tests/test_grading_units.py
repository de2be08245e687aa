import pytest

from srpo_fast.grading.units import canonical_unit, split_unit


@pytest.mark.parametrize(
    ("unit", "spellings"),
    [
        ("cm", ["cm", "centimeters", "centimetre", "CM", "Cm"]),
        ("cm^2", ["cm^2", "cm^{2}", "cm2", "square centimeters", "sq cm", "sq. cm"]),
        ("m s^-1", ["m/s", "meters per second", r"m \cdot s^{-1}", "m s^{-1}"]),
        ("m s^-2", ["m/s^2", r"m\cdot s^{-2}"]),
        ("deg", [r"^\circ", "degrees", "degree"]),
        ("celsius", ["celsius", "degrees celsius"]),
        ("", ["", "units", "square units", "units^2", "cubic units"]),
        ("MW", ["MW", "megawatts"]),
        ("mW", ["mW", "milliwatts"]),
    ],
)
def test_spellings_of_one_unit_are_the_same(unit, spellings):
    assert {spelling: canonical_unit(spelling) for spelling in spellings} == dict.fromkeys(spellings, unit)


@pytest.mark.parametrize("text", ["apples", "x", "cm cm", "cm long", "^2", "+ 3", "square", "m" * 50, "m " * 50])
def test_other_texts_are_no_unit(text):
    assert canonical_unit(text) is None


def test_a_unit_is_split_from_an_expression():
    assert split_unit(r"2\sqrt{3} cm") == (r"2\sqrt{3}", "cm")
    assert split_unit(r"2\sqrt{3}cm") == (r"2\sqrt{3}", "cm")
    assert split_unit(r"4\pi meter^2") == (r"4\pi", "m^2")
    assert split_unit(r"\frac{1}{2}mg") == (r"\frac{1}{2}mg", "")
    assert split_unit(r"2\pi r h") == (r"2\pi r h", "")
