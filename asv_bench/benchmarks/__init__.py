"""The suite that asv runs. Each benchmark's parameters run in a process of their own, where this is imported first."""

import os
import sys
from pathlib import Path

# asv finds this package by its folder; `nets`, `peers` and the others are scripts beside it.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

# A commit must not run another's machine code, and its processes should share their own. Here it lies beside the commit's
# wheel, and asv deletes both once enough newer commits are built. Numba reads the variable when it is first imported.
if "ASV_COMMIT" in os.environ and "ASV_ENV_DIR" in os.environ:
    build = Path(os.environ["ASV_ENV_DIR"], "asv-build-cache", os.environ["ASV_COMMIT"])
    os.environ["NUMBA_CACHE_DIR"] = str(build / "numba")
