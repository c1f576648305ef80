"""Writes the table beside it: python tests/data/tabular/write.py."""

from pathlib import Path

import numpy as np

import fastmlp
from fastmlp.tabular.columns import Category, Number, Preparation, Target
from fastmlp.tabular.table import Table

columns = [
    Number("x", 2.0, 4.0, True),
    Category("city", ("K\u00f6ln", "Rome"), True),
    Number("z", -1e3, 0.5),
    Category("d", ()),
]
model = fastmlp.Model([8, 5, 3], "tanh", "cross_entropy", rng=0)
target = Target("y", np.array(["high", "low", "middle"], object))
Table(model, Preparation(columns, "indicator"), target).save(Path(__file__).with_name("version-1.safetensors"))
