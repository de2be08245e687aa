"""What a user did wrong, in one line. Needs nothing, for `srpo doctor` is run where packages are broken."""

import argparse
from typing import NoReturn


class UserError(ValueError):
    """A user's mistake: the message says what was expected, what came and what to do."""


class ConfigError(UserError):
    """A mistake in the configuration of a run."""


class CommandParser(argparse.ArgumentParser):
    """Says in one line what is wrong with a command line, as other mistakes are told; so do its sub-commands."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message}; `{self.prog} --help` says what is expected\n")
