"""`python -m alignlab`, for what starts modules: `torchrun --nproc-per-node 2 -m alignlab run RECIPE`."""

import sys

from alignlab.cli import main

sys.exit(main())
