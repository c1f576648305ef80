"""What the estimators' fits are given: checked, weighted by class, and undone after an error."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from sklearn import get_config
from sklearn.base import is_classifier
from sklearn.utils import compute_sample_weight
from sklearn.utils.multiclass import unique_labels

from fastmlp import checks, onnx
from fastmlp.sklearn.coefficients import Coefficients, validate_data
from fastmlp.sklearn.objectives import output_of

CURVES = {"loss_curve_", "validation_loss_curve_", "validation_scores_"}  # which grow in place


class Arguments(Coefficients):
    """The part of a fit before its training."""

    @contextmanager
    def _all_or_nothing(self, incremental: bool = False) -> Iterator[None]:
        """An error within leaves the estimator as it was; not if `partial_fit` had changed the parameters by then."""
        onnx.register_if_imported()
        if incremental and not get_config()["skip_parameter_validation"]:
            self._validate_params()  # which scikit-learn does before the first call only
        before = dict(vars(self))
        for name in CURVES & before.keys():
            before[name] = None if before[name] is None else list(before[name])
        try:
            yield
        except BaseException:
            model = before.get("_model")
            if not (incremental and model is not None and self._model is model and self.t_ != before["t_"]):
                self.__dict__ = before
            raise

    def _rows(self, name: str, y: Any) -> np.ndarray:
        """y as (rows, outputs); a regressor's holds numbers that its loss can take."""
        if not is_classifier(self):
            y = checks.numbers(name, y)
            if self.loss == "poisson" and y.min() < 0:
                raise ValueError(f"{name} must be at least 0 for loss='poisson', got {y.min().item()!r}")
        return y.reshape(len(y), -1)

    def _check_layers(self, layers: list[int]) -> None:
        """Raise unless such a net, and its loss, are those of the parameters to go on from."""
        was = list(self._widths())
        if was[-1] != layers[-1]:
            raise ValueError(f"y must have {was[-1]} outputs, as in the fit to go on from, got {layers[-1]}")
        if was[0] != layers[0]:
            raise ValueError(f"coefs_[0] must have {layers[0]} rows, one a feature, got {was[0]}")
        if was != layers:
            raise ValueError(
                f"hidden_layer_sizes must be {was[1:-1]}, those of coefs_, to go on from the fit before, got {layers[1:-1]}"
            )
        if not is_classifier(self) and output_of(self.loss) != self.out_activation_:
            raise ValueError(f"loss must be that of the fit before, to go on from it, got {self.loss!r}")

    def _held_out(self, X: Any, y: Any) -> tuple[Any, np.ndarray] | None:
        """The validation data that came with the call."""
        if X is None and y is None:
            return None
        if X is None or y is None:
            given, lacks = ("y_val", "X_val") if X is None else ("X_val", "y_val")
            raise ValueError(f"{given} is provided, but {lacks} was not provided.")
        if not self._stochastic():
            raise ValueError(f"X_val and y_val need a stochastic solver, got solver={self.solver!r}.")
        X, y = validate_data(
            self,
            X,
            y,
            accept_sparse=["csr", "csc"],
            multi_output=True,
            y_numeric=not is_classifier(self),
            dtype=(np.float64, np.float32),
            reset=False,
        )
        if is_classifier(self):
            unknown = np.setdiff1d(unique_labels(y), self.classes_)
            if len(unknown):
                raise ValueError(f"`y_val` has classes not in `self.classes_`: {unknown}.")
            y = self._label_binarizer.transform(y).astype(bool)
        elif len(y) < 2:
            raise ValueError("X_val must have at least two rows, since their score is R2, got one")
        y = self._rows("y_val", y)
        if y.shape[1] != self.n_outputs_:
            raise ValueError(f"y_val must have {self.n_outputs_} outputs, as y has, got {y.shape[1]}")
        return X, y

    def _weights(self, y: np.ndarray, sample_weight: np.ndarray | None) -> np.ndarray | None:
        """The rows' weights, times those of their classes."""
        class_weight = getattr(self, "class_weight", None)
        if class_weight is None:
            return sample_weight
        if self._label_binarizer.y_type_.startswith("multilabel"):
            every, labels = np.repeat([[0], [1]], y.shape[1], axis=1), y.astype(int)
        else:
            every, labels = self.classes_, self._label_binarizer.inverse_transform(y)
        if isinstance(class_weight, str):
            weights = compute_sample_weight(class_weight, labels)
        else:  # scikit-learn asks that all classes of a dict are among the rows
            weights = compute_sample_weight(class_weight, np.concatenate([every, labels]))[len(every) :]
        return weights if sample_weight is None else weights * sample_weight
