"""One layer's kernels: products, activations, losses, optimiser steps."""
