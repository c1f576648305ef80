"""Where the pickles of version 0.1.0 look for `LBFGS`."""

from fastmlp.optimizers import LBFGS as LBFGS
