"""What a new process waits for. Python's own start does not count."""

import os
import subprocess
import sys

DATA = """
import numpy as np
rng = np.random.default_rng(0)
X = rng.standard_normal((256, {inputs}))
y = X[:, :1]
"""
FIT = """
import fastmlp
fastmlp.Model({sizes}, {activation!r}, dtype={dtype!r}, rng=0).fit(X, y, epochs=2, batch_size=64, optimizer=fastmlp.Adam())
"""
COLD = """
import os, tempfile
folder = tempfile.TemporaryDirectory()
os.environ["NUMBA_CACHE_DIR"] = folder.name
"""
NETS = {"2-2-1 float64": ([2, 2, 1], "relu", "float64"), "17-256-256-1 float32": ([17, 256, 256, 1], "tanh", "float32")}


def fit(net: str) -> tuple[str, str]:
    """The statement that trains, and what goes before it."""
    sizes, activation, dtype = NETS[net]
    return FIT.format(sizes=sizes, activation=activation, dtype=dtype), DATA.format(inputs=sizes[0])


class Import:
    """Numba's import is most of fastmlp's."""

    rounds, repeat, warmup_time = 2, 5, 0

    def timeraw_fastmlp(self) -> str:
        return "import fastmlp"

    def timeraw_numba(self) -> str:
        return "import numba"


class FirstFit:
    """The import and a first training of two epochs; its data, and so NumPy, are there already."""

    params = (list(NETS),)
    param_names = ("net",)
    rounds, repeat, warmup_time = 2, 2, 0

    def setup(self, net: str) -> None:
        statement, before = fit(net)
        subprocess.run([sys.executable, "-c", before + statement], env=os.environ, check=True)  # fills the cache

    def timeraw_cold(self, net: str) -> tuple[str, str]:
        statement, before = fit(net)
        return statement, COLD + before

    def timeraw_warm(self, net: str) -> tuple[str, str]:
        return fit(net)
