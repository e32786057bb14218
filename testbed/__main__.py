"""`python -m testbed`: hands over to the command line."""

import sys

from testbed.cli import main

if __name__ == "__main__":
    sys.exit(main())
