"""``python -m convsmith.cli``: the command line where its script is not installed."""

import sys

from convsmith.cli.main import main

sys.exit(main())
