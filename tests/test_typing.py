"""What mypy --strict says of users' code: nothing where it is right, and of each mistake one line."""

from __future__ import annotations

from pathlib import Path

import pytest

api = pytest.importorskip("mypy.api")
ROOT = Path(__file__).parent.parent
RIGHT = """
import numpy as np
import fastmlp
from fastmlp import types

class Halves(fastmlp.Callback):
    def on_epoch_end(self, model: fastmlp.Model, logs: dict[str, float]) -> bool:
        return bool(model.params.size) and logs["loss"] < 0.5

def largest(y_true: np.ndarray, y_pred: np.ndarray) -> np.float64:
    return np.float64(abs(y_true - y_pred).max())

def batches() -> list[tuple[np.ndarray, np.ndarray]]:
    return [(np.zeros((3, 2)), np.zeros(3))]

def stops(model: fastmlp.Model, logs: dict[str, float]) -> bool:
    return logs["epoch"] == 3

class Dataset:
    def __len__(self) -> int:
        return 2
    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        return batches()[0]

X, y = np.zeros((3, 2), np.float32), [0, 1, 1]
name: types.OptimizerName = "adam"
square = fastmlp.CustomActivation("square", lambda z: z * z, lambda z: z + z)
model = fastmlp.Model([2, 3, 1], activations="relu", loss="bce", dtype=np.float32, rng=np.random.default_rng(0))
model = fastmlp.Model((2, 3, 1), ["tanh", square], dtype="float64", rng=0, init="he", dropout=[0.5])
model = fastmlp.Model.from_weights([np.eye(2), [[1.0], [2.0]]], [np.zeros(2), [0.0]], activations=["relu", "sigmoid"])
schedule = fastmlp.schedules.Cosine(0.1, warmup=2)
history: fastmlp.History = model.fit(
    X, y, 5, 2, schedule, name, verbose=True, rng=None, class_weight={0: 1.0}, sample_weight=[1, 2, 3],
    metrics=["auc", largest], callbacks=[Halves(), fastmlp.EarlyStopping(mode="min"), stops], nonfinite="stop",
)
model.fit(X, y, optimizer=fastmlp.LBFGS(), metrics=largest, callbacks=stops, class_weight="balanced", validation_data=(X, y))
model.fit(X, y, optimizer=fastmlp.Adam(schedule, clip_norm=1.0), metrics="f1", verbose="bar", callbacks=Halves())
model.fit_batches(batches, optimizer="sgd")
model.fit_batches(batches())
model.fit_batches(Dataset(), validation_data=(X, y, np.ones(3)))
loss: float = model.step(X, y, lr=0.1)
loss = model.step(X, y, None, "adam", sample_weight=[1.0, -1.0, 2.0])
loss = model.loss(X, y, sample_weight=np.ones(3))
loss, flat = model.gradient(X, y)
nothing, flat = model.gradient(X, output_gradient=np.ones((3, 1)), logits=True)
model.step(X, output_gradient=[[1.0], [2.0], [3.0]], optimizer=fastmlp.Adam())
slopes: np.ndarray = model.backward(X, output_gradient=np.ones((3, 1))).inputs
shown: float | None = model.backward(X, y, sample_weight=[1, 2, 3]).loss
z, a = model.layer_outputs(X)[-1]
shape: tuple[int, ...] = model.layer_outputs(X)[0].z.shape
target: fastmlp.Model = model.copy()
target.set_params_from(model, tau=0.01)
target.set_params_from(model.params)
out: np.ndarray = model.predict([[1.0, 2.0]], out=np.empty((1, 1)))
model.apply_gradient(model.gradient(X, y)[1], optimizer="rmsprop")
score: float = fastmlp.metrics.log_loss(y, model.predict(X), sample_weight=None)
fastmlp.warmup("float32")
fastmlp.set_num_threads(None)
"""
WRONG = """
import fastmlp
model = fastmlp.Model([2, 1])
fastmlp.Model([2, 1], activations="rleu")  # arg-type
fastmlp.Model([2, 3, 1], activations=["relu", "sigmiod"])  # list-item
fastmlp.Model([2, 1], loss="MSE")  # arg-type
fastmlp.Model([2, 1], init="xavier")  # arg-type
model.fit([[1.0, 2.0]], [1.0], optimizer="Adam")  # arg-type
model.fit([[1.0, 2.0]], [1.0], optimizer=fastmlp.Adam)  # arg-type
model.fit([[1.0, 2.0]], [1.0], metrics=["acuracy"])  # list-item
model.fit([[1.0, 2.0]], [1.0], callbacks=3)  # arg-type
model.fit([[1.0, 2.0]], [1.0], verbose="bars")  # arg-type
model.fit([[1.0, 2.0]], [1.0], nonfinite="skip")  # arg-type
model.fit([[1.0, 2.0]], [1.0], class_weight="balance")  # arg-type
model.step([[1.0, 2.0]], [1.0], optimizer="lbfsg")  # call-overload
model.step([[1.0, 2.0]], [1.0], optimizer="lbfgs")  # call-overload
model.step([[1.0, 2.0]], [1.0], optimizer=fastmlp.LBFGS())  # call-overload
model.step([[1.0, 2.0]])  # call-overload
model.step([[1.0, 2.0]], [1.0], output_gradient=[[1.0]])  # call-overload
model.gradient([[1.0, 2.0]], output_gradient=[[1.0]], sample_weight=[1.0])  # call-overload
model.backward([[1.0, 2.0]], [1.0], logits=True)  # call-overload
one: float = model.step([[1.0, 2.0]], output_gradient=[[1.0]])  # assignment
model.set_params_from(model, tau="0.1")  # arg-type
fastmlp.EarlyStopping(mode="maximum")  # arg-type
fastmlp.Adam("0.1")  # arg-type
"""


@pytest.mark.slow
def test_users_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MYPYPATH", str(ROOT))
    (tmp_path / "right.py").write_text(RIGHT)
    (tmp_path / "wrong.py").write_text(WRONG)
    settings = ["--strict", f"--config-file={ROOT / 'pyproject.toml'}", f"--cache-dir={tmp_path / 'cache'}", "--no-pretty"]
    said, failed, _ = api.run([*settings, str(tmp_path / "right.py"), str(tmp_path / "wrong.py")])
    assert not failed, said
    of_right = [line for line in said.splitlines() if "right.py" in line]
    assert not of_right, said
    errors = {}
    for line in said.splitlines():
        place, error, _ = line.partition(": error: ")
        if error:
            assert place.startswith(str(tmp_path)), line
            errors[int(place.split(":")[-1])] = line.rpartition("[")[2].rstrip("]")
    assert errors == {number: line.split("# ")[1] for number, line in enumerate(WRONG.splitlines(), 1) if "# " in line}
