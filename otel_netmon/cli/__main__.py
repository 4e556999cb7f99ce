"""``python -m otel_netmon.cli``."""

import sys

from otel_netmon.cli import main

sys.exit(main())
