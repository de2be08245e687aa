"""A reward of the user's own, `reward.variant: file.py:function`: how it is loaded and what it must return.

This runs in workers (own.py) and imports little.

The function takes (completion, answer), the completion's text and the gold, and returns a number, which is the total,
or a dict:

    any of format, accuracy, effectiveness, reflection_format, length: numbers, whose sum is the total
    total: in their place, or beside them if it is their sum
    first_correct, second_correct: whether the answers are right, for the accuracies and the filter of groups
    reasons: names of what was not earned
"""

import importlib.util
import inspect
import math
import sys
from collections.abc import Callable
from numbers import Real
from pathlib import Path
from typing import Any

from srpo_fast.config import UserError

PARTS = ("format", "accuracy", "effectiveness", "reflection_format", "length")
VERDICTS = {"first_correct", "second_correct"}
_KEYS = ("total", *PARTS, *sorted(VERDICTS), "reasons")
_REMEDY = "return the total as a number, or a dict with keys of rewards/own_function.py"


def load_reward_function(path_and_name: str) -> Callable[[str, str], dict[str, Any]]:
    """The function of "file.py:function", its results checked. A bare number becomes the part `accuracy`.

    Raises UserError when there is no such file or function, and when a result is not what the module asks for. What
    the user's own code raises is not caught: this is what the workers call.
    """
    path, _, name = path_and_name.rpartition(":")
    function = _load(Path(path), name)
    _check_signature(function, path_and_name)
    return lambda text, gold: _checked(function(text, gold), path_and_name)


def _load(path: Path, name: str) -> Callable[[str, str], Any]:
    if not path.is_file():
        raise UserError(f"expected a Python file with the reward function {name}, found none at {path.absolute()}")
    spec = importlib.util.spec_from_file_location(f"srpo_reward_{path.stem}", path)
    assert spec is not None, f"{path=}"
    assert spec.loader is not None, f"{path=}"
    module = importlib.util.module_from_spec(spec)
    sys.modules[module.__name__] = module  # dataclasses look their module up there
    sys.path.insert(0, str(path.parent.absolute()))  # as if it were run: modules beside it can be imported
    try:
        spec.loader.exec_module(module)
    except SyntaxError as error:
        raise UserError(f"expected Python in {path}, got: {error}; repair the file") from error
    function = getattr(module, name, None)
    if not callable(function):
        own = [key for key, value in vars(module).items() if inspect.isfunction(value)]
        raise UserError(f"expected a function {name} in {path}, found {', '.join(own) or 'no function'}")
    return function


def _check_signature(function: Callable[..., Any], source: str) -> None:
    try:
        inspect.signature(function).bind("completion", "answer")
    except TypeError as error:
        raise UserError(f"expected {source} to be called as f(completion, answer), but: {error}") from error


def _checked(result: Any, source: str) -> dict[str, Any]:
    """The fields of the Score. Raises UserError naming what is wrong with the result."""
    if not isinstance(result, dict):
        result = {"total": result}
    unknown = [key for key in result if key not in _KEYS]
    if unknown or not result.keys() & {"total", *PARTS}:
        raise UserError(f"expected {source} to return keys of {', '.join(_KEYS)}, got {result!r:.200}; {_REMEDY}")
    numbers = {key: _number(value, source) for key, value in result.items() if key in ("total", *PARTS)}
    parts = {part: numbers[part] for part in PARTS if part in numbers} or {"accuracy": numbers["total"]}
    total = sum(parts.values())
    if not math.isclose(numbers.get("total", total), total, rel_tol=1e-6, abs_tol=1e-6):
        raise UserError(
            f"expected {source} to return a total that is the sum of its parts, {total}, got {result!r:.200}"
        )
    fields: dict[str, Any] = dict.fromkeys(PARTS, 0.0) | parts
    fields |= {key: bool(result[key]) for key in VERDICTS if key in result}
    if "reasons" in result:
        fields["reasons"] = _reasons(result["reasons"], source)
    return fields


def _number(value: Any, source: str) -> float:
    if not isinstance(value, Real) or not math.isfinite(value):
        raise UserError(f"expected {source} to return finite numbers, got {value!r:.200}; {_REMEDY}")
    return float(value)


def _reasons(value: Any, source: str) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not all(isinstance(reason, str) for reason in value):
        raise UserError(f"expected {source} to return reasons as a list of strings, got {value!r:.200}")
    return tuple(value)
