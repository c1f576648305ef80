"""A network with what becomes of a table's columns before it sees them, and of its outputs behind it."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from fastmlp.files import models
from fastmlp.model import Model
from fastmlp.tabular import files
from fastmlp.tabular.columns import Category, Preparation, Target


class Table:
    """A model of a table, as `fastmlp train` makes it and `fastmlp.load` reads it.

    Parameters
    ----------
    model : Model
    preparation : Preparation
    target : Target

    Attributes
    ----------
    model : Model
        The network: its inputs are `preparation.inputs`.

    Examples
    --------
    >>> import numpy as np, fastmlp
    >>> from fastmlp.tabular.columns import Category, Number, Preparation, Target
    >>> from fastmlp.tabular.table import Table
    >>> model = fastmlp.Model.from_weights([[[2.0], [1.0], [-1.0], [0.0]]], [[0.0]])
    >>> table = Table(model, Preparation([Number("x", 10.0, 5.0), Category("c", ("a", "b"))], "mean"), Target("y"))
    >>> table.predict({"x": [10.0, 20.0, None], "c": ["a", "b", "never seen"]})
    array([1., 3., 0.])
    """

    def __init__(self, model: Model, preparation: Preparation, target: Target) -> None:
        self.model, self.preparation, self.target = model, preparation, target

    def predict(self, data: Any) -> np.ndarray:
        """Each row's most probable label, or its number.

        Parameters
        ----------
        data : pandas.DataFrame, mapping of columns, or (rows, columns) array
            With the columns that the model was trained on; others are ignored. An array has all of them, in their order.

        Returns
        -------
        (rows,) array
            Labels of the classes' dtype, or float64.

        Raises
        ------
        ValueError
            If a column is missing, or holds what it must not: the message names it, and the row.
        """
        outputs, classes = self._outputs(data), self.target.classes
        if classes is None:
            return outputs[:, 0] * self.target.scale + self.target.mean
        return classes[_probabilities(outputs).argmax(axis=1)]

    def predict_proba(self, data: Any) -> np.ndarray:
        """Each class's probability.

        Parameters
        ----------
        data
            As for `predict`.

        Returns
        -------
        (rows, classes) array of float64

        Raises
        ------
        ValueError
            As `predict` does, or if the target is a number.
        """
        if self.target.classes is None:
            raise ValueError(f"{self.target.name!r} is a number, which has no probabilities")
        return _probabilities(self._outputs(data))

    def _outputs(self, data: Any) -> np.ndarray:
        X = self.preparation.transform(self.preparation.read(data), self.model.dtype)
        if not len(X):
            return np.zeros((0, self.model.sizes[-1]))
        return self.model.predict(X).astype(np.float64)

    def raw(self) -> Model:
        """The network for numbers as they are: scaling is part of the first layer's parameters, and of the last one's.

        Categories still are inputs of 0 and 1, and a missing number is its mean. All is multiplied in float64 and then rounded:
        where a mean is many times the scale, float32 loses figures.
        """
        mean, scale = self.preparation.spread()
        weights = [W.astype(np.float64) for W in self.model.weights]
        biases = [b.astype(np.float64) for b in self.model.biases]
        weights[0] = weights[0] / scale[:, None]
        biases[0] = biases[0] - mean @ weights[0]
        if self.target.classes is None:
            weights[-1] = weights[-1] * self.target.scale
            biases[-1] = biases[-1] * self.target.scale + self.target.mean
        network: Any = self.model.network
        return Model.from_weights(weights, biases, network.activations, network.loss, network.dtype)

    def settle(self, X: np.ndarray) -> None:
        """Give inputs that no training row had the mean effect of their column's others.

        They are those of unknown categories: their weights are what they were drawn as, and would be noise.

        Parameters
        ----------
        X : (rows, inputs) array
            The training rows.
        """
        W, at = self.model.weights[0], 0
        for column in self.preparation.columns:
            end = at + column.width
            if isinstance(column, Category) and not X[:, end - 1].any():
                W[end - 1] = X[:, at : end - 1].mean(axis=0) @ W[at : end - 1]
            at = end

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write all of it to a file, as a whole or not at all.

        Parameters
        ----------
        path : str or os.PathLike
            A file that is there is replaced.

        Raises
        ------
        OSError
            If it cannot be written.
        """
        described, tensors = files.described(self)
        models.write(path, tensors, "table", **described)

    def __repr__(self) -> str:
        return f"Table({self.target.name!r} from {len(self.preparation.columns)} columns; {self.model!r})"


def _probabilities(outputs: np.ndarray) -> np.ndarray:
    return np.column_stack([1 - outputs[:, 0], outputs[:, 0]]) if outputs.shape[1] == 1 else outputs
