"""The estimators under the address that they had up to version 0.1.0, which is in the pickles made then.

Such a pickle names modules; this one, whose classes are the first thing that it names, answers for all of them. New code takes
the classes from `fastmlp`.
"""

import sys

from fastmlp.sklearn import objectives
from fastmlp.sklearn.estimators import MLPClassifier as MLPClassifier
from fastmlp.sklearn.estimators import MLPRegressor as MLPRegressor

sys.modules.setdefault("fastmlp.objectives", objectives)  # where the optimisers and the poisson loss of a fit were
