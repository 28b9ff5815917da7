"""`python -m scratchlm`: the command line where no `scratchlm` command is on the path."""

import sys

from scratchlm.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
