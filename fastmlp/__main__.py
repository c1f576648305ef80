"""``python -m fastmlp``: the notebook's training, compiled, and the same program in NumPy beside it; or the command line."""

import sys
import time

import numpy as np

import fastmlp
from fastmlp.kernels.machine.cache import cache_folder

EPOCHS = 1000
LR = 0.1


def data() -> tuple[np.ndarray, np.ndarray, list[np.ndarray], list[np.ndarray]]:
    """The notebook's four rows, labels and initial parameters."""
    random = np.random.RandomState(2)
    X = random.randn(4, 2)
    y = np.array([[0], [1], [0], [1]])
    weights = [random.randn(2, 2) * 0.01, random.randn(2, 1) * 0.01]
    return X, y, weights, [np.zeros((1, 2)), np.zeros((1, 1))]


def train_numpy(epochs: int) -> np.ndarray:
    """The notebook's training with one NumPy call an operation; the final parameters, as `Model.params` orders them."""
    X, y, (W1, W2), (b1, b2) = data()
    rows = len(X)
    losses = []
    for _ in range(epochs):
        z1 = X @ W1 + b1
        a1 = np.maximum(0, z1)
        p = 1 / (1 + np.exp(-(a1 @ W2 + b2)))
        losses.append(-np.mean(y * np.log(p + 1e-8) + (1 - y) * np.log(1 - p + 1e-8)))
        d2 = p - y
        d1 = (d2 @ W2.T) * (z1 > 0)
        W2 -= LR * (a1.T @ d2) / rows
        b2 -= LR * d2.sum(axis=0, keepdims=True) / rows
        W1 -= LR * (X.T @ d1) / rows
        b1 -= LR * d1.sum(axis=0, keepdims=True) / rows
    return np.concatenate([part.ravel() for part in (W1, b1, W2, b2)])


def model() -> fastmlp.Model:
    """The notebook's network."""
    _, _, weights, biases = data()
    return fastmlp.Model.from_weights(weights, biases, activations=["relu", "sigmoid"], loss="bce")


def main() -> None:
    """Print the notebook's losses, then the comparison."""
    X, y, _, _ = data()
    folder = cache_folder()
    compiled = folder is not None and any(folder.glob("*.nbc"))

    started = time.perf_counter()
    first = model()
    first.fit(X, y, epochs=EPOCHS, lr=LR, verbose=200)
    compiling = time.perf_counter() - started

    # The two take turns, and the fastest turn of each counts: other programs only ever add to a time.
    ours, theirs = [], []
    repeats = 100
    for _ in range(7):
        started = time.perf_counter()
        model().fit(X, y, epochs=EPOCHS * repeats, lr=LR)
        ours.append((time.perf_counter() - started) / (EPOCHS * repeats))
        started = time.perf_counter()
        expected = train_numpy(EPOCHS)
        theirs.append((time.perf_counter() - started) / EPOCHS)
    difference = np.abs(first.params - expected).max()

    print()
    print(f"an epoch in NumPy       {min(theirs) * 1e6:9.3f} us")
    print(f"an epoch in fastmlp     {min(ours) * 1e6:9.3f} us, {min(theirs) / min(ours):.0f} times as fast")
    print(f"largest difference      {difference:9.1e}  between the {first.params.size} parameters after {EPOCHS} epochs")
    print(f"first fit               {compiling:9.3f} s, machine code {'from the cache' if compiled else 'compiled'}")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        from fastmlp import cli

        sys.exit(cli.main())
    main()
