"""What a user did wrong, in one line. Needs nothing, for `srpo doctor` is run where packages are broken."""


class UserError(ValueError):
    """A user's mistake: the message says what was expected, what came and what to do."""


class ConfigError(UserError):
    """A mistake in the configuration of a run."""
