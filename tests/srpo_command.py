"""`srpo` for run_on_ranks: what its commands import late is imported with it."""

import sys

from srpo_fast import prompts, rollout  # noqa: F401
from srpo_fast.cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
