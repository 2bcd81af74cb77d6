"""`python -m pixyz.core` says whether this environment is sound."""

import sys

from ._installation import main

sys.exit(main())
