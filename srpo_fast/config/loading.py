"""A config from a YAML file and `key=value` overrides, every mistake named at once."""

import argparse
import difflib
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from srpo_fast.config.presets import PRESETS
from srpo_fast.config.schema import Config
from srpo_fast.config.stage_1 import LocalTeacherConfig
from srpo_fast.user_error import CommandParser, ConfigError

DEFAULT_CONFIG = Path(__file__).parent.parent.parent / "configs" / "embedded.yaml"


def load_config(path: Path, overrides: list[str]) -> Config:
    """The config in `path` with `section.key=value` overrides, or ConfigError naming every mistake at once."""
    if not path.is_file():
        raise ConfigError(f"config file {path} does not exist; configs/ holds the ones that ship")
    try:
        document = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(document, dict):
        raise ConfigError(f"{path} must hold a mapping of sections, got {type(document).__name__}")
    for override in sorted(overrides, key=lambda o: not o.startswith("objective=")):
        _apply_override(document, override)
        if override.startswith("objective="):
            _apply_preset(document)
    try:
        return Config.model_validate(document)
    except ValidationError as error:
        raise config_error(error) from error


def config_error(error: ValidationError) -> ConfigError:
    """Every mistake that pydantic found, in one line."""
    return ConfigError("; ".join(_explain(e) for e in error.errors()))


def config_from_arguments(arguments: list[str]) -> Config:
    """What train.py's command line says: --config F.yaml and any number of section.key=value."""
    parser = CommandParser(prog="train.py", description="Trains Qwen2.5-VL with SRPO.")
    add_config_arguments(parser)
    options = parser.parse_intermixed_args(arguments)
    config = load_config(options.config, options.overrides)
    if config.reflection and isinstance(config.reflection.teacher, LocalTeacherConfig):
        raise ConfigError(
            "a teacher that is a model directory has no room beside the policy that is trained; run `srpo reflect` "
            "with this config, then train with reflection=null and cold_start.data=<its sft.json>"
        )
    return config


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", type=Path, default=DEFAULT_CONFIG, help="a YAML file (default: %(default)s)")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="replaces one value of the config")


def dump_config(config: Config) -> str:
    """The resolved config as YAML: what config.resolved.yaml holds."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)


def _apply_override(document: dict[str, Any], override: str) -> None:
    key, separator, value = override.partition("=")
    if not separator or not key:
        raise ConfigError(
            f"override {override!r} is not of the form section.key=value; a file is given as --config F.yaml"
        )
    *parents, leaf = key.split(".")
    node = document
    for parent in parents:
        if node.get(parent) is None:
            node[parent] = {}
        node = node[parent]
        if not isinstance(node, dict):
            raise ConfigError(f"override {override!r}: {parent} is a value, not a section")
    try:
        node[leaf] = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ConfigError(f"override {override!r}: the value is not valid YAML") from error


def _apply_preset(document: dict[str, Any]) -> None:
    """The objective's values in the place of the file's."""
    name = document["objective"]
    for section, values in PRESETS.get(name, {}).items() if isinstance(name, str) else ():
        given = document.get(section) or {}
        if isinstance(given, dict):
            document[section] = given | values


def _explain(error: Any) -> str:
    """One line for one pydantic error; an unknown key names the nearest known one."""
    location = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        near = _nearest_key(location)
        return f"unknown key {location}" + (f"; did you mean {near}?" if near else "")
    if error["type"] == "value_error":  # a check of ours, which says what came
        return f"{location or 'config'}: {error['msg'].removeprefix('Value error, ')}"
    if error["type"] == "missing":
        return f"missing key {location}"
    return f"{location or 'config'}: {error['msg']}, got {error['input']!r}"[:300]


def _nearest_key(location: str) -> str | None:
    """A neighbour of nearly the same name, else such a key of any section, else what looks most like the whole."""
    known = _known_keys()
    section, _, leaf = location.rpartition(".")
    neighbours = {k.rpartition(".")[2]: k for k in known if k.rpartition(".")[0] == section}
    anywhere = {k.rpartition(".")[2]: k for k in known}
    for keys in (neighbours, anywhere):
        if near := difflib.get_close_matches(leaf, keys, n=1):
            return keys[near[0]]
    return next(iter(difflib.get_close_matches(location, known, n=1, cutoff=0.5)), None)


def _known_keys(section: type[BaseModel] = Config, prefix: str = "") -> list[str]:
    keys: list[str] = []
    for name, field in section.model_fields.items():
        keys.append(prefix + name)
        for kind in getattr(field.annotation, "__args__", (field.annotation,)):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                keys += _known_keys(kind, f"{prefix}{name}.")
    return keys
