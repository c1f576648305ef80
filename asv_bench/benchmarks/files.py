"""Models in files: save and load, beside the safetensors package on the same tensors."""

import tempfile
from pathlib import Path

from safetensors.numpy import load_file, save_file

import fastmlp
from benchmarks.timed import Timed

FOLDER = Path(tempfile.mkdtemp())
SIZES = {"mnist": (784, 256, 128, 10), "wide": (4096, 4096, 10), "deep": (64,) * 200}


class File(Timed):
    """A file of the net's parameters, which the system's cache holds by then; a save waits until the disk has it."""

    params = ([*SIZES], ["float32", "float64"], ["fastmlp", "safetensors"])
    param_names = ("net", "dtype", "by")

    def setup(self, net: str, dtype: str, by: str) -> None:
        self.path = FOLDER / f"{net}-{dtype}-{by}"
        self.model = fastmlp.Model(SIZES[net], dtype=dtype, rng=0)
        self.model.save(self.path)
        self.tensors = load_file(self.path)

    def teardown(self, net: str, dtype: str, by: str) -> None:
        self.path.unlink()

    def time_save(self, net: str, dtype: str, by: str) -> None:
        model, tensors, path = self.model, self.tensors, self.path
        self.take((lambda: model.save(path)) if by == "fastmlp" else lambda: save_file(tensors, path), threads=2)

    def time_load(self, net: str, dtype: str, by: str) -> None:
        path = self.path
        self.take((lambda: fastmlp.load(path)) if by == "fastmlp" else lambda: load_file(path), threads=2)
