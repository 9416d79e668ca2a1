"""python -m helios_world: the same as the command helios-world."""

import sys

from helios_world.demos.cli import main

sys.exit(main())
