"""What training takes of memory."""

import gc
import tracemalloc
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pinned
from nets import data
from numba.core.runtime import _nrt_python, rtsys
from peers import BUILDERS
from speed import WORKLOADS

import fastmlp

FEW, MANY = 1, 11  # epochs; both in one compiled call, for a call counts its arrays as allocations
LIMIT = 120.0  # seconds
PEAK = """
import json, resource, sys
sys.path.insert(0, sys.argv[1])
from peers import BUILDERS
from speed import WORKLOADS
if sys.argv[2] != "numpy":
    __import__({"sklearn": "sklearn.neural_network", "jax": "jax.numpy"}.get(sys.argv[2], sys.argv[2]))
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
imported = peak()
BUILDERS[sys.argv[2]](WORKLOADS[sys.argv[3]])[0](1)
print(json.dumps([imported, peak()]))
"""


class Model:
    """fastmlp's own, by what Python and Numba's runtime count."""

    params = (["notebook", "digits", "mnist", "matexp"],)
    param_names = ("net",)

    def setup(self, net: str) -> None:
        of = WORKLOADS[net]
        self.X, self.y, weights, biases = data(of)
        self.X, self.y = self.X[: 2 * of.batch], self.y[: 2 * of.batch]
        self.optimizer = fastmlp.SGD(of.lr) if of.optimizer == "sgd" else fastmlp.Adam(of.lr)
        self.make = lambda: fastmlp.Model.from_weights(weights, biases, activations=of.activation, loss=of.loss)
        self.batch = of.batch
        self.trained = self.make()
        self.fit(self.trained, 2)  # compiles

    def fit(self, model: fastmlp.Model, epochs: int) -> None:
        model.fit(self.X, self.y, epochs=epochs, batch_size=self.batch, optimizer=self.optimizer, rng=0)

    def track_buffers(self, net: str) -> int:
        """Bytes that a model holds after a training: parameters, optimiser, workspace."""
        gc.collect()
        tracemalloc.start()
        model = self.make()
        self.fit(model, 1)
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    track_buffers.unit = "bytes"

    def more(self, count: Callable[[], int]) -> int:
        """By how much a count goes up through more epochs of the same training."""
        ups = []
        for epochs in (FEW, MANY):
            before = count()
            self.fit(self.trained, epochs)
            ups.append(count() - before)
        return ups[1] - ups[0]

    def track_allocations(self, net: str) -> int:
        """In compiled code, by ten more epochs: none, for training allocates nothing."""
        _nrt_python.memsys_enable_stats()
        return self.more(lambda: rtsys.get_allocation_stats().alloc)

    track_allocations.unit = "allocations"


class Peak:
    """A whole process that trains one epoch, beside the other libraries where they are installed."""

    params = (["fastmlp", *(name for name in BUILDERS if name != "fastmlp")], ["digits", "mnist"])
    param_names = ("library", "net")
    unit = "bytes"

    def setup(self, library: str, net: str) -> None:
        if not find_spec(library):
            raise NotImplementedError(f"{library} is not installed")

    def measured(self, library: str, net: str) -> tuple[int, int]:
        """The peak after the imports and at the end, of a process that compiles nothing."""
        arguments = [PEAK, str(Path(pinned.__file__).parent), library, net]
        pinned.run("-c", arguments, 1, LIMIT)
        imported, peak = pinned.run("-c", arguments, 1, LIMIT)
        return imported, peak

    def track_process(self, library: str, net: str) -> int:
        return self.measured(library, net)[1]

    def track_beyond_imports(self, library: str, net: str) -> int:
        imported, peak = self.measured(library, net)
        return peak - imported
