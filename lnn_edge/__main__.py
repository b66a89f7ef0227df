"""`python -m lnn_edge` is `lnn-edge`."""

from __future__ import annotations

import sys

from .cli.program import main

sys.exit(main())
