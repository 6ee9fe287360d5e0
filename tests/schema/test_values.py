"""One value against one annotation: validity, words, and a nearest value that is itself valid."""

import math
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from annotated_types import Ge, Gt, Le, Lt, MinLen
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from mindeye_pl.schema.values import NO_VALUE, as_override, in_words, is_valid, nearest
from mindeye_pl.types import Clamp, Fraction, Name, OneOf, PositiveFloat, PositiveInt, ProperFraction

#: What a YAML file may hold.
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@pytest.mark.parametrize(
    ("value", "annotation", "valid"),
    [
        (1, float, True),
        (1.0, int, False),
        (True, int, False),
        ("1", int, False),
        (1, str, False),
        (None, int, False),
        (None, int | None, True),
        ([1, 2], list[PositiveInt], True),
        ([1, 2], tuple[int, int], True),
        ([1], tuple[int, int], False),
        ({1: 2}, dict[PositiveInt, PositiveInt], True),
        ({0: 2}, dict[PositiveInt, PositiveInt], False),
        ("folder", Path, True),
        (math.nan, float, False),
        (math.inf, PositiveFloat, False),
        (math.inf, Clamp, True),
        (math.nan, Clamp, False),
        ("a/b", Name, False),
        ("a-b_1.5", Name, True),
        (3, nn.Module, False),
        (3, Any, True),
        (3, "NotDefinedAnywhere", True),
    ],
)
def test_valid(value: Any, annotation: Any, valid: bool) -> None:
    assert is_valid(value, annotation) is valid


@given(st.integers() | st.floats(), st.integers(-50, 50), st.integers(0, 50))
def test_integer_bounds(value: float, lower: int, width: int) -> None:
    annotation = Annotated[int, Ge(lower), Le(lower + width)]
    assert is_valid(value, annotation) is (isinstance(value, int) and lower <= value <= lower + width)
    found = nearest(value, annotation)
    assert is_valid(found, annotation)
    if isinstance(value, int):
        assert found == min(max(value, lower), lower + width)


@given(st.floats(), st.floats(-10, 10), st.floats(0.5, 10))
def test_float_bounds(value: float, lower: float, width: float) -> None:
    annotation = Annotated[float, Ge(lower), Lt(lower + width)]
    assert is_valid(value, annotation) is (lower <= value < lower + width)
    assert is_valid(nearest(value, annotation), annotation)


@given(PLAIN)
@pytest.mark.parametrize(
    "annotation",
    [PositiveInt, PositiveFloat, Fraction, ProperFraction, bool, Literal["published", "corrected"], int | None],
)
def test_the_nearest_value_is_valid(annotation: Any, value: Any) -> None:
    assert is_valid(nearest(value, annotation), annotation)


@given(PLAIN)
def test_any_value_has_an_answer(value: Any) -> None:
    for annotation in (Name, list[PositiveInt], dict[str, PositiveInt], PositiveInt | Literal["all"], nn.Module):
        found = nearest(value, annotation)
        assert found is NO_VALUE or is_valid(found, annotation)
        assert "\n" not in in_words(annotation)
    assert isinstance(as_override(value), str)


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        (PositiveInt, "a whole number of at least 1"),
        (Fraction, "a number of at least 0 and at most 1"),
        (Annotated[float, Gt(0)] | None, "a number above 0 or null"),
        (PositiveFloat | Literal["all"], "all or a number above 0"),
        (Literal["a", "b", "c"], "one of a, b, c"),
        (Annotated[str, OneOf({"a": 1, "b": 2})], "a or b"),
        (Annotated[list[PositiveInt], MinLen(1)], "a list that is not empty, each item a whole number of at least 1"),
        (nn.Module, "a node with `_target_` (Module)"),
    ],
)
def test_words(annotation: Any, words: str) -> None:
    assert in_words(annotation) == words


def test_a_misspelt_choice() -> None:
    choices = Literal["published", "corrected"]
    assert nearest("corect", choices) == "corrected"
    assert nearest("qqq", choices) == "published", "the first one, where none is alike"


def test_a_registry_that_grows() -> None:
    registry = {"first": 1}
    annotation = Annotated[str, OneOf(registry)]
    assert not is_valid("second", annotation)
    registry["second"] = 2
    assert is_valid("second", annotation)


def test_overrides() -> None:
    assert as_override({"a": [1, None, True], "b": 0.5}) == "{a:[1,null,true],b:0.5}"
    assert as_override("3") == r"\'3\'", "else it would be read as a number"
