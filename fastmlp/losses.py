"""The losses: one entry each."""

from dataclasses import dataclass

from fastmlp.kernels import loss as codes


@dataclass(frozen=True)
class Loss:
    """What a name stands for.

    Attributes
    ----------
    code : int
        The kernels' number for it.
    formula : str
        The loss that is reported, for outputs p and targets y.
    gradient : str
        What the backward pass starts from.
    output : str
        The output activation that it takes unless told otherwise.
    outputs : tuple of str
        The output activations that it can take; empty for any.
    """

    code: int
    formula: str
    gradient: str
    output: str
    outputs: tuple[str, ...] = ()


LOSSES = {
    "bce": Loss(
        codes.BCE,
        "-mean(y log(p + 1e-8) + (1 - y) log(1 - p + 1e-8))",
        "dz = (p - y) / (rows * outputs)",
        "sigmoid",
        ("sigmoid",),
    ),
    "cross_entropy": Loss(
        codes.CROSS_ENTROPY,
        "mean over rows of log(sum(exp(z))) - z[label], or of -sum(y log(softmax(z)))",
        "dz = (p - y) / rows",
        "softmax",
        ("softmax",),
    ),
    "mse": Loss(codes.MSE, "mean((p - y)**2)", "dp = 2 (p - y) / (rows * outputs)", "identity"),
    "mae": Loss(codes.MAE, "mean(|p - y|)", "dp = sign(p - y) / (rows * outputs)", "identity"),
    "huber": Loss(
        codes.HUBER,
        "mean(e**2 / 2 if |e| <= 1 else |e| - 1/2), e = p - y",
        "dp = clip(e, -1, 1) / (rows * outputs)",
        "identity",
    ),
}
