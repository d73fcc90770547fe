"""`python -m lmlt_arch.cli`, for environments whose scripts are not on the path."""

import sys

from lmlt_arch.cli import main

sys.exit(main())
