"""How models are trained: `Model.fit` and `Model.fit_batches`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sized
from typing import Any, Literal

import numpy as np

from fastmlp import checks
from fastmlp.engine.state import Job
from fastmlp.files.description import optimizer as describe
from fastmlp.history import History
from fastmlp.lbfgs import LBFGS
from fastmlp.optimizer import Optimizer
from fastmlp.optimizers import DEFAULT, choose
from fastmlp.schedules import Course, Schedule
from fastmlp.training import dataset
from fastmlp.training.checkpoint import Checkpoint, Every
from fastmlp.training.epochs import Epochs, plain
from fastmlp.training.feeding import AllAtOnce, ByBatches, ByPieces, iterable
from fastmlp.training.lbfgs import check, minimize
from fastmlp.training.steps import Differentiable
from fastmlp.types import (
    AnyOptimizer,
    ArrayLike,
    Batches,
    Callbacks,
    Labelled,
    Metrics,
    Nonfinite,
    Rng,
    SteppingOptimizer,
    Verbose,
)


class Trainable(Differentiable):
    """What `Model` has of training."""

    _followed: tuple[Schedule, Course] | None = None  # the last fit's, where its schedule follows a course

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        epochs: int = 1,
        batch_size: int | None = None,
        lr: float | Schedule | None = None,
        optimizer: AnyOptimizer = None,
        shuffle: bool = True,
        rng: Rng = None,
        verbose: Verbose = 0,
        *,
        callbacks: Callbacks = None,
        validation_split: float = 0.0,
        validation_data: Labelled | None = None,
        class_weight: Mapping[int, float] | Literal["balanced"] | None = None,
        sample_weight: ArrayLike | None = None,
        metrics: Metrics = None,
        label_smoothing: float = 0.0,
        nonfinite: Nonfinite = "ignore",
        initial_epoch: int = 0,
        checkpoint: str | os.PathLike[str] | None = None,
        every: Every = "epoch",
        resume: str | os.PathLike[str] | None = None,
    ) -> History:
        """Train for some epochs of minibatches.

        Parameters
        ----------
        X : (rows, sizes[0]) array
            A memory map of the model's dtype is read where it lies. X and y may be pandas objects with columns of any real
            numbers, of which missing ones are NaN.
        y : array
            (rows, outputs), or (rows,) for one output; in [0, 1] for ``bce``. For ``cross_entropy`` integer labels (rows,), or
            probability rows (rows, outputs); a row of a sum s other than 1 counts s times. For a `RowLoss` (rows, targets).
        epochs : int
            The number of epochs, those before `initial_epoch` included.
        batch_size : int or None
            Rows in a step; an epoch's last step may have fewer. None: all rows.
        lr : float, Schedule or None
            The learning rate, if `optimizer` is a name or None; any other optimiser has one already. None: the optimiser's
            default. Schedules are in `fastmlp.schedules`.
        optimizer : str, Optimizer, LBFGS or None
            A name of `fastmlp.optimizers.NAMED`, such as ``adam``, is that optimiser with its defaults. None: ``sgd``.
            Momentum and Adam's means carry over from call to call while the kind of optimiser stays. With `LBFGS` an epoch is
            an iteration.
        shuffle : bool
            Visit the rows in a new random order each epoch; of no effect if a batch holds all rows.
        rng : int, numpy.random.Generator or None
            Draws the orders, and the units that dropout leaves out.
        verbose : bool, int or "bar"
            Print the loss, the validation's loss and the metrics every `verbose` epochs; True is 1, and 0 and False are never.
            ``bar``: a progress bar, by tqdm.
        callbacks : callback or list of these
            Functions ``f(model, logs)``, called after each epoch, or objects such as `fastmlp.EarlyStopping`: see `Callback`.
        validation_split : float
            The fraction of the rows, in [0, 1), that are kept to validate with: the last ones.
        validation_data : (X, y) or (X, y, sample_weight)
            Rows whose loss and metrics are reported after each epoch.
        class_weight : dict, "balanced" or None
            Weights of labels, which multiply `sample_weight`; labels that are left out have 1. ``balanced``: rows / (classes *
            rows of the class), as in scikit-learn. For integer labels and one-hot rows of ``cross_entropy``, and for 0 and 1 of
            one output with ``bce``.
        sample_weight : (rows,) array or None
            At least 0, with a positive sum. A step's loss is sum(w * loss of row) / sum(w) over its rows; 0 if all w are.
        metrics : str, function or list of these
            Names of `fastmlp.metrics.METRICS` (weighted with `sample_weight`), or functions ``f(y_true, y_pred)``, which get
            the targets as they came. They are computed after each epoch from all rows of training and of validation: two more
            forward passes an epoch.
        label_smoothing : float
            In [0, 1): train on (1 - e) * y + e / k with k outputs of ``cross_entropy``, k = 2 for ``bce`` (Szegedy et al.,
            2016). The validation's loss is that of y itself.
        nonfinite : {"ignore", "raise", "stop"}
            What to do if a loss or a weight is not finite when an epoch ends: go on, raise `DivergenceError`, or end the fit.
            ``raise`` and ``stop`` put the weights and moments of the last finite epoch back, with which the history ends.
            ``ignore`` leaves the numbers as NumPy would compute them, and one `RuntimeWarning` a fit names the epoch. (A fit
            that is a single call, as in the notes, warns only if its last loss is not finite.)
        initial_epoch : int
            The first epoch's number, as in Keras: the number of epochs that earlier fits have done, to go on with their
            schedule. `ReduceOnPlateau` goes on from what it has seen in the model's last fit, if that had an equal one.
        checkpoint : str, os.PathLike or None
            A file to write the training to, in the middle of an epoch too: see `every`, and Notes.
        every : "epoch", int or float
            When: after each epoch, after a number of steps, or of seconds, such as ``600.0``. Besides at the start and the end.
        resume : str, os.PathLike or None
            A checkpoint to go on from, with the same arguments (`epochs` may be more, without a schedule), X and y: the
            parameters, the history and the best weights at the end are those of the fit that was never stopped, bit for bit,
            with any number of threads.

        Returns
        -------
        History
            ``epoch`` and ``loss``, with an entry for each epoch; the loss is the mean over the rows, each before its update.
            Where they apply also ``lr`` (of the epoch's last step), ``val_loss``, and each metric by its name and by ``val_``
            with its name.

        Raises
        ------
        ValueError, TypeError
            If an argument is out of range or of the wrong kind; the model, `rng` and the callbacks are then as they were.
        DivergenceError
            If ``nonfinite="raise"`` and a loss or a weight is not finite.
        ImportError
            If ``verbose="bar"`` finds no tqdm, or `LBFGS` no SciPy.
        OSError
            If a checkpoint cannot be written or read. The model has the weights of the last step.

        Notes
        -----
        A checkpoint is a file that is whole or not there. The one before it is kept, under the name with ``.previous`` behind
        it, and `resume` takes that, with a warning, if the newer one is damaged. `fastmlp.load` reads a checkpoint as a model.
        It holds what schedules, `fastmlp.EarlyStopping` and callbacks with ``state_dict`` and ``load_state_dict`` remember, and
        checksums of the data. What other callbacks and metrics remember, it does not: callbacks without these methods are
        called as ever, and start anew. Of a user's schedule the class's name is compared, not its settings. `LBFGS` has no
        checkpoints.

        Ctrl-C is seen between steps, several times a second unless one step takes longer, and leaves a model that can be
        used and trained on. An exception in a callback, a metric or a schedule ends the fit, and leaves the model as the last
        epoch did; one in a function of a `CustomLoss`, `RowLoss` or `CustomActivation`, as the last step did. Built-in metrics
        are tried on a row before the first epoch; functions are called after epochs only.

        If ten epochs or more have not lowered a regression's loss because its targets are large, a `UserWarning` says so.

        An X of another dtype or layout is converted: as a whole up to 256 MB of the model's dtype, or if `batch_size` is None;
        else by pieces of 64 MB (or a batch), so that data larger than the memory can be trained on; NumPy then draws the orders
        of the rows, which are different ones. Validation, metrics, callbacks, `nonfinite` and `ReduceOnPlateau` make a fit call
        Python once an epoch; without them all epochs are one call.

        Examples
        --------
        >>> import numpy as np, fastmlp
        >>> X = np.random.default_rng(0).standard_normal((400, 2))
        >>> y = (X[:, 0] * X[:, 1] > 0).astype(int)
        >>> model = fastmlp.Model([2, 32, 1], "tanh", loss="bce", rng=0)
        >>> stopping = fastmlp.EarlyStopping(monitor="val_accuracy", patience=20)
        >>> history = model.fit(
        ...     X, y, 200, 32, optimizer=fastmlp.Adam(fastmlp.schedules.Cosine(0.02, warmup=2)), rng=0,
        ...     validation_split=0.25, metrics=["accuracy"], callbacks=stopping,
        ... )
        >>> stopping.best > 0.95
        True

        Ten epochs of a schedule of twenty, then the others:

        >>> lr = fastmlp.schedules.Cosine(0.5)
        >>> first = model.fit(X, y, epochs=20, lr=lr, callbacks=lambda model, logs: logs["epoch"] == 9)
        >>> rest = model.fit(X, y, epochs=20, lr=lr, initial_epoch=10)
        >>> [*first["lr"], *rest["lr"]] == lr.rates(0, 20, steps=1, epochs=20).tolist()
        True
        """
        asked = choose(lr, optimizer, by="fit")
        quasi_newton, chosen = (asked, DEFAULT) if isinstance(asked, LBFGS) else (None, asked)
        # One test tells the plain fits, of which the smallest net's takes 7 us: 0.3 us.
        if (
            callbacks is sample_weight is class_weight is validation_data is metrics is quasi_newton is None  # type: ignore[comparison-overlap]
            and checkpoint is resume is None
            and type(every) is str
            and every == "epoch"
            and validation_split == label_smoothing == initial_epoch == 0
            and nonfinite == "ignore"
            and type(verbose) is not str
            and not isinstance(chosen.lr, Schedule)
            and getattr(X, "nbytes", 0) <= dataset.WHOLE // 8
        ):
            X, y, code = self._data(X, y)
            job = self._job(X, y, code, chosen, batch_size, shuffle, 0)
            losses, verbose = np.zeros(checks.count("epochs", epochs)), checks.verbose(verbose)
            if job.shuffle or rng is not None or any(self.network.dropout):
                job.seed = job.dropout = checks.seed(rng)
            return plain(self._engine, self.network, job, losses, verbose)

        epochs, val = checks.count("epochs", epochs), None
        schedule = chosen.lr if isinstance(chosen.lr, Schedule) else None
        if validation_data is not None:
            if validation_split:
                raise ValueError("validation_split must not be given together with validation_data")
            val = dataset.validation_data(self.network, validation_data)
        whole = batch_size is None or quasi_newton is not None
        if validation_split:
            data, val = dataset.split(self.network, X, y, sample_weight, validation_split, whole)
        else:
            data = dataset.prepare(self.network, X, y, sample_weight, whole=whole)
        if class_weight is not None:
            data = dataset.weigh_classes(self.network, data, class_weight)
        if smoothing := checks.real("label_smoothing", label_smoothing, least=0.0, below=1.0):
            data = dataset.smooth(self.network, data, smoothing)
        job = self._job(data.X, data.y, data.code, chosen, batch_size, shuffle, data.weighted)
        keeping = self._keeping(checkpoint, every, resume, optimizer if quasi_newton else None)
        rest = verbose, metrics, callbacks, nonfinite, schedule, data, val, data.pieces, keeping
        if quasi_newton:
            check(job.batch, len(data.X), any(self.network.dropout))
            if nonfinite != "ignore":
                raise ValueError(f"nonfinite must be 'ignore' for optimizer={optimizer!r}, none of whose steps raises the loss")
            course = Epochs(self, initial_epoch, epochs, None, *rest)
            checks.generator(rng)
            how = data.code, quasi_newton, epochs - initial_epoch
            return course.follow(lambda look: minimize(self._engine, data.X, data.y, *how, look, data.weighted))
        course = Epochs(self, initial_epoch, epochs, -(-len(data.X) // job.batch), *rest)
        checks.generator(rng)
        settings = {"rows": len(data.X), "batch_size": job.batch, "shuffle": job.shuffle, "pieces": data.pieces}
        course.settings(**settings, optimizer=describe(chosen))
        return self._run(course, job, data, rng)

    def _run(self, course: Epochs, job: Job, data: dataset.Data, rng: Any) -> History:
        """Train on data that lie as the kernels read them, or by pieces; `rng` is drawn from when all has been checked."""
        orders = np.random.default_rng(0) if data.pieces and job.shuffle else None
        seeded = job.shuffle or rng is not None or any(self.network.dropout)

        def draw() -> None:
            if seeded:
                job.seed = job.dropout = checks.seed(rng)
            if orders is not None:
                orders.bit_generator.state = np.random.default_rng(checks.seed(rng) % 2**64).bit_generator.state

        if not data.pieces:
            return course.run(AllAtOnce(self._engine, job), draw)
        job.order, job.shuffle = None, False
        return course.run(ByPieces(self._engine, job, data, orders), draw)

    def _keeping(self, checkpoint: Any, every: Any, resume: Any, refused: Any = None) -> Checkpoint | None:
        """What is to be written down, and what to go on from, if anything is; `refused` is an optimiser that cannot."""
        if refused is not None and not checkpoint is resume is None:
            raise ValueError(f"checkpoint and resume must be None for optimizer={refused!r}, whose memory is SciPy's")
        keeping = Checkpoint(checkpoint, every, resume, (*self.network.activations, self.network.loss))
        return keeping if keeping else None

    def _job(
        self, X: np.ndarray, y: np.ndarray, code: int, optimizer: Optimizer, batch_size: Any, shuffle: Any, weighted: int
    ) -> Job:
        """The job, without a seed: a generator moves on when everything else has been checked."""
        samples = len(X)
        batch = samples if batch_size is None else min(checks.count("batch_size", batch_size), samples)
        shuffle = checks.flag("shuffle", shuffle) and batch < samples
        order = np.arange(samples) if shuffle else None
        if self._engine.unchecked is not None:
            self._engine.check(X, y, code, weighted)
        return Job(X, y, code, optimizer, batch, order, shuffle, weighted=weighted)

    def fit_batches(
        self,
        batches: Batches | Callable[[], Batches],
        epochs: int = 1,
        steps_per_epoch: int | None = None,
        lr: float | Schedule | None = None,
        optimizer: SteppingOptimizer = None,
        rng: Rng = None,
        verbose: Verbose = 0,
        *,
        callbacks: Callbacks = None,
        validation_data: Labelled | None = None,
        metrics: Metrics = None,
        nonfinite: Nonfinite = "ignore",
        initial_epoch: int = 0,
        checkpoint: str | os.PathLike[str] | None = None,
        every: Every = "epoch",
        resume: str | os.PathLike[str] | None = None,
    ) -> History:
        """Train on batches as they come, with a step for each: for data that is made on the way, or is larger than the memory.

        Parameters
        ----------
        batches : iterable, map-style dataset, or function that returns either
            Batches (X, y) or (X, y, sample_weight), each as for `fit`, of any numbers of rows. An iterable is iterated anew in
            each epoch; an iterator, which cannot be, goes on from epoch to epoch. A map-style dataset, such as a ``PyDataset``
            of Keras, is asked for ``batches[0]``, ``batches[1]`` and so on, up to ``len(batches)`` or an IndexError; its other
            methods are not called. A function is called at the beginning of each epoch.
        epochs : int
            The number of epochs, those before `initial_epoch` included.
        steps_per_epoch : int or None
            Batches in an epoch; None: all. An iterator for several epochs needs it; so does a schedule, unless ``len(batches)``
            is known.
        lr, optimizer, rng, verbose, callbacks, validation_data, nonfinite, initial_epoch
            As for `fit`; without `LBFGS`, which needs all rows at once.
        metrics
            As for `fit`, of `validation_data` only.
        checkpoint, every, resume
            As for `fit`. The batches must come again as they came: a map-style dataset is asked for the next one; a source with
            ``state_dict()`` and ``load_state_dict(state)``, such as torchdata's ``StatefulDataLoader``, gets its state back,
            and its next iterator goes on from there; any other is iterated over up to that place, an iterator from its very
            beginning. The last batch before it must have the checksum that it had. A function is not called for epochs that
            are done: what it returns must not depend on how often it has been called.

        Returns
        -------
        History
            As of `fit`; ``loss`` is the mean over an epoch's rows.

        Raises
        ------
        ValueError, TypeError
            If an argument is out of range or of the wrong kind; the model is then as it was. If a batch is, or if batches are
            missing; the model is then as the batch before left it.
        DivergenceError, ImportError, OSError
            As for `fit`.

        Examples
        --------
        >>> import numpy as np, fastmlp
        >>> def batches():
        ...     rng = np.random.default_rng(0)
        ...     for _ in range(100):
        ...         X = rng.standard_normal((32, 3))
        ...         yield X, X.sum(axis=1)
        >>> model = fastmlp.Model([3, 1], rng=0)
        >>> history = model.fit_batches(batches, epochs=3, lr=0.1)
        >>> history["loss"][2] < 1e-10
        True
        """
        epochs, initial = checks.count("epochs", epochs), checks.count("initial_epoch", initial_epoch, 0)
        chosen = choose(lr, optimizer, by="epochs")
        schedule = chosen.lr if isinstance(chosen.lr, Schedule) else None
        once = isinstance(batches, Iterator)
        if not callable(batches) and not iterable(batches):
            raise TypeError(f"batches must be an iterable or a function that returns one, got {batches!r}")
        if steps_per_epoch is not None:
            checks.count("steps_per_epoch", steps_per_epoch)
        elif schedule is not None or (once and epochs > initial + 1):
            if not isinstance(batches, Sized):
                last = f"an iterator that is to last for {epochs - initial} epochs"
                what = f"lr={schedule!r}" if schedule is not None else last
                raise ValueError(f"steps_per_epoch must be given for {what}")
            steps_per_epoch = len(batches)
        val = None if validation_data is None else dataset.validation_data(self.network, validation_data)
        if metrics and val is None:
            raise ValueError(f"metrics must have validation_data to be computed from, got {metrics!r}")
        steps = (steps_per_epoch or (len(batches) if isinstance(batches, Sized) else 0)) or None
        keeping = self._keeping(checkpoint, every, resume)
        rest = verbose, metrics, callbacks, nonfinite, schedule, None, val, True, keeping
        course = Epochs(self, initial, epochs, steps, *rest)
        course.settings(steps_per_epoch=steps_per_epoch, optimizer=describe(chosen))
        checks.generator(rng)

        def seed() -> int:
            return checks.seed(rng) if rng is not None or any(self.network.dropout) else 0

        def job(batch: Any, index: int) -> Job:
            return self._batch(batch, index, chosen)

        return course.run(ByBatches(self._engine, batches, steps_per_epoch, job, seed))

    def _batch(self, batch: Any, index: int, optimizer: Optimizer) -> Job:
        if not isinstance(batch, tuple | list) or len(batch) not in (2, 3):
            raise TypeError(f"batches must hold (X, y) or (X, y, sample_weight), got {type(batch).__name__} as batch {index}")
        try:
            data = dataset.prepare(self.network, *batch, whole=True)
        except (TypeError, ValueError) as error:
            raise type(error)(f"batches: number {index} is refused: {error}") from None
        if self._engine.unchecked is not None:
            self._engine.check(data.X, data.y, data.code, data.weighted)
        return Job(data.X, data.y, data.code, optimizer, len(data.X), weighted=data.weighted)
