"""Programs to run with scikit-learn's estimators and with fastmlp's, and where the results are meant to differ.

C and R are the classes, `c` and `r` make small estimators, X, yb and so on are `data`; the result is the last line's value.
"""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
from scipy import sparse


def data(classifier: Any, regressor: Any) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    X = rng.standard_normal((40, 4))
    score = X[:, 0] + 0.5 * X[:, 1]
    ym = np.digitize(score, [-0.5, 0.5])
    small = {"hidden_layer_sizes": (5,), "max_iter": 4, "random_state": 0}

    def everything(estimator: Any) -> Any:
        names = ("n_iter_", "t_", "n_layers_", "n_outputs_", "n_features_in_", "out_activation_", "loss_", "best_loss_")
        names += ("loss_curve_", "validation_scores_", "best_validation_score_", "classes_", "coefs_", "intercepts_")
        return {name: getattr(estimator, name) for name in names if hasattr(estimator, name)}

    def full(estimator: Any, X: Any, y: Any) -> Any:
        more = [estimator.predict_proba(X), estimator.predict_log_proba(X)] if hasattr(estimator, "predict_proba") else []
        return [everything(estimator), estimator.predict(X), estimator.score(X, y), *more]

    return {
        "np": np,
        "sparse": sparse,
        "C": classifier,
        "R": regressor,
        "c": lambda **settings: classifier(**small | settings),
        "r": lambda **settings: regressor(**small | settings),
        "everything": everything,
        "full": full,
        "X": X,
        "X32": X.astype(np.float32),
        "S": sparse.csr_matrix(X * (np.abs(X) > 0.5)),
        "yb": (score > 0).astype(int),
        "ym": ym,
        "ys": np.array(["a", "b", "rare"])[ym],
        "yl": (X[:, :3] > 0).astype(int),
        "yr": score,
        "Y2": X[:, :2] * 2 + 1,
        "yp": np.round(np.exp(score)),
        "w": rng.uniform(0.5, 2, 40),
    }


PROGRAMS: dict[str, str] = {}


def _add(name: str, program: str) -> None:
    assert name not in PROGRAMS, name
    PROGRAMS[name] = inspect.cleandoc(program)


# ---- fits ------------------------------------------------------------------------------------------------------------

for _make, _y in (("c", "yb"), ("c", "ym"), ("c", "ys"), ("c", "yl"), ("r", "yr"), ("r", "Y2"), ("r(loss='poisson')", "yp")):
    _call = _make if "(" in _make else _make + "()"
    for _solver in ("adam", "sgd", "lbfgs"):
        _add(f"fit {_y} {_solver}", f"full({_call}.set_params(solver={_solver!r}).fit(X, {_y}), X, {_y})")
    _add(f"fit {_y} weighted", f"full({_call}.fit(X, {_y}, sample_weight=w), X, {_y})")
    _add(f"fit {_y} early", f"full({_call}.set_params(early_stopping=True).fit(X, {_y}), X, {_y})")
    _add(f"fit {_y} sparse", f"full({_call}.fit(S, {_y}), S, {_y})")
    _classes = ", classes=np.unique(y)" if _make == "c" else ""
    _add(f"partial_fit {_y}", f"y = {_y}; full({_call}.partial_fit(X, y{_classes}).partial_fit(X[:9], y[:9]), X, y)")
    _add(f"warm {_y}", f"m = {_call}.set_params(warm_start=True); full(m.fit(X, {_y}).fit(X, {_y}), X, {_y})")
    _add(f"predict {_y} float32 later", f"m = {_call}.fit(X, {_y}); m.predict(X32)")
    _add(f"fit {_y} float32", f"m = {_call}.fit(X32, {_y}); [m.coefs_, m.predict(X32), m.loss_curve_]")

SETTINGS = """
activation='identity' | activation='logistic' | activation='tanh' | alpha=0 | alpha=2.5 | batch_size=1 | batch_size=7
batch_size=40 | batch_size=1000 | learning_rate='invscaling', solver='sgd' | learning_rate='adaptive', solver='sgd', tol=1.
learning_rate_init=0.1 | momentum=0, solver='sgd' | momentum=1, solver='sgd' | nesterovs_momentum=False, solver='sgd'
power_t=0, learning_rate='invscaling', solver='sgd' | shuffle=False | tol=0 | tol=10.
early_stopping=True, validation_fraction=0.5 | n_iter_no_change=1, tol=1. | n_iter_no_change=np.inf
beta_1=0, beta_2=0 | epsilon=0.1 | max_fun=1, solver='lbfgs' | max_fun=3, solver='lbfgs'
hidden_layer_sizes=() | hidden_layer_sizes=3 | hidden_layer_sizes=[3, 2] | max_iter=1
hidden_layer_sizes=np.array([3, 2]) | random_state=np.random.RandomState(3) | random_state=np.int64(3)
solver='lbfgs', tol=100.
"""
for _line in SETTINGS.replace("|", "\n").split("\n"):
    if _text := _line.strip():
        _add(f"classifier {_text}", f"full(c({_text}).fit(X, ym), X, ym)")
        _add(f"regressor {_text}", f"full(r({_text}).fit(X, yr), X, yr)")

# ---- settings that are refused ---------------------------------------------------------------------------------------

BAD = """
activation='bogus' | activation=None | alpha=-1 | alpha='a' | alpha=None | batch_size=0 | batch_size='b' | batch_size=1.5
learning_rate='c' | learning_rate_init=0 | learning_rate_init=-1. | power_t=-1 | max_iter=0 | max_iter=1.5 | shuffle=2 | tol=-1
random_state='x' | warm_start='no' | momentum=1.5 | momentum=-0.1 | nesterovs_momentum=None | early_stopping='yes'
early_stopping=True, validation_fraction=0 | validation_fraction=1. | beta_1=1. | beta_2=-1 | epsilon=0 | n_iter_no_change=0
max_fun=0 | hidden_layer_sizes=0 | hidden_layer_sizes=(5, 0) | hidden_layer_sizes=(-1,) | hidden_layer_sizes='a'
solver='newton' | early_stopping=True, validation_fraction=0.01 | verbose='loud' | hidden_layer_sizes=2.5 | tol=None
"""
for _line in BAD.replace("|", "\n").split("\n"):
    if _text := _line.strip():
        _add(f"refused {_text}", f"c({_text}).fit(X, yb)")
_add("refused loss", "r(loss='absolute').fit(X, yr)")
_add("unknown parameter", "c().set_params(bogus=1)")
_add("unknown argument", "C(bogus=1)")

# ---- data ------------------------------------------------------------------------------------------------------------

for _name, _X in {
    "nan": "np.where(X > 2, np.nan, X)",
    "infinite": "np.where(X > 1, np.inf, X)",
    "1-d": "X[0]",
    "3-d": "X[None]",
    "no rows": "X[:0]",
    "no columns": "X[:, :0]",
    "strings": "X.astype(str)",
    "words": "np.full((40, 4), 'word')",
    "complex": "X + 1j",
    "dates": "X.astype('M8[s]')",
    "objects": "X.astype(object)",
    "none": "None",
    "nested": "[[1, [2]]] * 40",
    "integers": "(10 * X).astype(int)",
    "booleans": "X > 0",
    "half": "X.astype('f2')",
    "long": "X.astype(np.longdouble)",
    "big-endian": "X.astype('>f8')",
    "fortran": "np.asfortranarray(X)",
    "strided": "np.repeat(X, 2, axis=1)[:, ::2]",
    "list": "X.tolist()",
    "csc": "sparse.csc_matrix(S)",
    "coo": "sparse.coo_matrix(S)",
    "sparse array": "sparse.csr_array(S)",
    "sparse float32": "S.astype('f4')",
    "sparse integers": "sparse.csr_matrix((X > 0).astype(int))",
    "sparse nan": "sparse.csr_matrix(np.where(X > 1, np.nan, X))",
    "masked": "np.ma.masked_array(X, X > 10)",
    "huge": "X * 1e300",
    "beyond float32": "(X * 1e30).astype('f4')",
    "tiny": "X * 1e-310",
    "constant": "X * 0",
}.items():
    _add(f"X {_name}", f"m = c().fit({_X}, yb); [m.coefs_, m.loss_curve_]")
    _add(f"predict {_name}", f"c().fit(X, yb).predict({_X})")

for _name, _y in {
    "nan": "np.where(yr > 1, np.nan, yr)",
    "infinite": "np.where(yr > 1, np.inf, yr)",
    "short": "yr[:5]",
    "scalar": "1.0",
    "none": "None",
    "column": "yr[:, None]",
    "3-d": "yr[:, None, None]",
    "strings": "yr.astype(str)",
    "objects of strings": "yr.astype(str).astype(object)",
    "words": "ys",
    "objects of words": "ys.astype(object)",
    "dates": "yr.astype('M8[s]')",
    "spans": "yr.astype('m8[s]')",
    "complex": "yr + 1j",
    "booleans": "yr > 0",
    "integers": "yp.astype(int)",
    "unsigned": "yp.astype('u1')",
    "objects": "yr.astype(object)",
    "list": "yr.tolist()",
    "float32": "yr.astype('f4')",
    "sparse": "sparse.csr_matrix(Y2)",
    "no outputs": "Y2[:, :0]",
    "large": "yr * 6e6",
    "bytes": "yr.astype('S')",
}.items():
    _add(f"y {_name}", f"m = r().fit(X, {_y}); [m.coefs_, m.loss_curve_, m.predict(X)]")
    _add(f"y partial {_name}", f"m = r().partial_fit(X, {_y}); [m.coefs_, m.loss_curve_, m.predict(X)]")

for _name, _y in {
    "nan": "np.where(yb > 0, np.nan, 0)",
    "continuous": "yr",
    "short": "yb[:5]",
    "none": "None",
    "column": "yb[:, None]",
    "one class": "yb * 0",
    "floats": "yb * 2.0",
    "booleans": "yb > 0",
    "objects": "ys.astype(object)",
    "mixed": "np.array(['a', 1] * 20, dtype=object)",
    "dates": "np.array(['2020-01-01', '2021-01-01'], 'M8[D]')[yb]",
    "bytes": "ys.astype('S')",
    "multioutput": "np.c_[ym, ym]",
    "one label": "yl[:, :1]",
    "two labels": "yl[:, :2]",
    "sparse labels": "sparse.csr_matrix(yl)",
    "list": "ym.tolist()",
    "negative": "-ym",
}.items():
    _add(f"classes {_name}", f"m = c().fit(X, {_y}); [m.coefs_, m.loss_curve_, m.classes_, m.predict(X), m.predict_proba(X)]")

for _name, _w in {
    "short": "w[:5]",
    "2-d": "w[:, None]",
    "nan": "np.where(w > 1, np.nan, w)",
    "negative": "np.where(w > 1.5, -0.1, w)",
    "some zero": "np.where(w > 1, 0, w)",
    "zero": "w * 0",
    "scalar": "2.0",
    "strings": "ys",
    "integers": "np.arange(40) % 3 + 1",
    "list": "w.tolist()",
    "float32": "w.astype('f4')",
}.items():
    _add(f"weights {_name}", f"m = c().fit(X, ym, sample_weight={_w}); [m.coefs_, m.loss_curve_]")
    _add(f"weights {_name} lbfgs", f"m = r(solver='lbfgs').fit(X, yr, sample_weight={_w}); [m.coefs_, m.loss_]")

# ---- use -------------------------------------------------------------------------------------------------------------

for _method in ("predict(X)", "predict_proba(X)", "predict_log_proba(X)", "score(X, yb)", "_predict(X)"):
    _add(f"unfitted {_method}", f"c().{_method}")
    _add(f"other columns {_method}", f"c().fit(X, yb).{_method.replace('X', 'X[:, :3]')}")
_add("score of other rows", "c().fit(X, yb).score(X, yb[:5])")
_add("score weighted", "c().fit(X, yb).score(X, yb, sample_weight=w)")
_add("score of strings", "r().fit(X, yr).score(X, ys)")
for _text in ("coefs_", "loss_curve_", "classes_", "n_iter_", "best_loss_", "validation_scores_"):
    _add(f"unfitted {_text}", f"c().{_text}")
_add("after lbfgs", "c(solver='lbfgs').fit(X, yb).loss_curve_")
_add("huge outputs", "r(loss='poisson').fit(X, yp).predict(X * 1e4)")
_add("huge logits", "c().fit(X, ym).predict_proba(X * 1e8)")
_add("huge logit", "c().fit(X, yb).predict_log_proba(X * 1e8)")
_add("weights zero in a batch", "r(batch_size=1).fit(X, yr, sample_weight=np.where(w > 1, 0, w))")
_add("weights zero in partial_fit", "r().fit(X, yr).partial_fit(X, yr, w * 0)")
_add("diverged", "r(solver='sgd', learning_rate_init=1e200, activation='identity').fit(X, yr)")
_add("diverged early", "r(solver='sgd', learning_rate_init=1e200, activation='identity', early_stopping=True).fit(X, yr)")
_add("verbose", "c(verbose=True).fit(X, yb); None")
_add("verbose early", "c(verbose=True, early_stopping=True, tol=1., n_iter_no_change=1).fit(X, yb); None")
_add("poisson below zero", "m = r(loss='poisson').fit(X, yr); m.loss_curve_")
_add("unscaled", "full(c(max_iter=9).fit(X * 1000, ym), X * 1000, ym)")
_add("unscaled float32", "m = c(max_iter=9).fit(X32 * 1000, ym); [m.loss_curve_, m.predict(X32)]")
_add("unscaled labels", "full(c().fit(X * 1000, yl), X * 1000, yl)")
_add("learned by heart", "m = c(max_iter=300, learning_rate_init=0.5, tol=0).fit(X, ym); m.loss_curve_[:3]")
_add("sure binary", "m = c(learning_rate_init=1e-6).fit(X * 1e4, yb); m.loss_curve_")

# ---- partial_fit, warm_start and changed settings -----------------------------------------------------------------------

_add("partial_fit without classes", "c().partial_fit(X, yb)")
_add("partial_fit new classes", "c().partial_fit(X, yb, classes=[0, 1]).partial_fit(X, ym)")
_add("partial_fit other classes", "c().partial_fit(X, yb, classes=[0, 1]).partial_fit(X, yb, classes=[0, 1, 2])")
_add("partial_fit same classes", "m = c().partial_fit(X, yb, classes=[0, 1]).partial_fit(X, yb, classes=[1, 0]); m.coefs_")
_add("partial_fit some classes", "m = c().partial_fit(X[:9], yb[:9] * 0, classes=[0, 1, 2]); [m.coefs_, m.predict_proba(X)]")
_add("partial_fit unknown classes", "c().partial_fit(X, ym, classes=[0, 1])")
_add("partial_fit other columns", "c().partial_fit(X, yb, classes=[0, 1]).partial_fit(X[:, :3], yb)")
_add("partial_fit early", "c(early_stopping=True).partial_fit(X, yb, classes=[0, 1])")
_add("partial_fit lbfgs", "c(solver='lbfgs').partial_fit(X, yb, classes=[0, 1])")
_add("partial_fit lbfgs regressor", "r(solver='lbfgs').partial_fit(X, yr)")
_add("has partial_fit", "[hasattr(c(solver=s), 'partial_fit') for s in ('lbfgs', 'sgd', 'adam')]")
_add("partial_fit weighted", "m = c().partial_fit(X, yb, w, [0, 1]); m.coefs_")
_add("partial_fit labels", "m = c().partial_fit(X, yl, classes=[0, 1, 2]).partial_fit(X, yl); full(m, X, yl)")
_add("partial_fit other float", "m = c().partial_fit(X, yb, classes=[0, 1]); m.partial_fit(X32, yb).predict(X)")
_add("fit, partial_fit", "m = c().fit(X, yb).partial_fit(X, yb); everything(m)")
_add("partial_fit, fit", "m = c().partial_fit(X, yb, classes=[0, 1]).fit(X, ym); everything(m)")
for _old, _new in (("yr", "Y2"), ("Y2", "yr")):
    _add(f"partial_fit {_old} {_new}", f"r().partial_fit(X, {_old}).partial_fit(X, {_new})")
    for _solver in ("adam", "sgd", "lbfgs"):
        _add(f"warm {_old} {_new} {_solver}", f"r(warm_start=True, solver={_solver!r}).fit(X, {_old}).fit(X, {_new})")
_add("warm other classes", "c(warm_start=True).fit(X, yb).fit(X, ym)")
_add("warm fewer classes", "c(warm_start=True).fit(X, ym).fit(X, yb)")
_add("warm other columns", "c(warm_start=True).fit(X, yb).fit(X[:, :3], yb)")
_add("warm labels", "c(warm_start=True).fit(X, yl[:, :2]).fit(X, yb)")
_add("warm layers", "c(warm_start=True).fit(X, yb).set_params(hidden_layer_sizes=(6,)).fit(X, yb)")
_add("warm more layers", "c(warm_start=True).fit(X, yb).set_params(hidden_layer_sizes=(5, 5)).fit(X, yb)")
_add("warm solver", "m = c(warm_start=True).fit(X, yb).set_params(solver='lbfgs').fit(X, yb); m.coefs_")
_add("warm loss", "r(warm_start=True).fit(X, yp).set_params(loss='poisson').fit(X, yp)")
_add("not warm", "m = c().fit(X, yb).set_params(hidden_layer_sizes=(6,)).fit(X[:, :3], ym); everything(m)")

CHANGED = """
activation='tanh' | alpha=10. | batch_size=3 | shuffle=False | tol=1. | n_iter_no_change=1 | max_iter=77 | random_state=5
verbose=True | early_stopping=True | validation_fraction=0.3 | warm_start=True | max_fun=3 | solver='lbfgs' | solver='sgd'
learning_rate_init=0.1 | beta_1=0.5 | beta_2=0.5 | epsilon=0.1 | hidden_layer_sizes=(6,) | alpha=-1 | batch_size=-3
activation='bogus'
"""
for _text in (text.strip() for text in CHANGED.replace("\n", "|").strip("|").split("|")):
    _add(
        f"changed {_text}",
        f"m = c().partial_fit(X, ym, classes=[0, 1, 2]).set_params({_text}).partial_fit(X, ym); everything(m)",
    )
    _add(f"changed before predict {_text}", f"c().fit(X, ym).set_params({_text}).predict_proba(X)")
for _text in ("momentum=0.1", "nesterovs_momentum=False", "power_t=2., learning_rate='invscaling'", "learning_rate='adaptive'"):
    _add(f"changed sgd {_text}", f"m = r(solver='sgd').fit(X, yr).set_params({_text}).partial_fit(X, yr); everything(m)")
_add("changed loss", "r().partial_fit(X, yp).set_params(loss='poisson').partial_fit(X, yp)")
_add("changed loss before predict", "r().fit(X, yp).set_params(loss='poisson').predict(X)")

# ---- parameters that are replaced ----------------------------------------------------------------------------------------

_add("coefs_ scaled", "m = c().fit(X, ym); m.coefs_[0] *= 2; m.predict_proba(X)")
_add("coefs_ replaced", "m = c().fit(X, ym); m.coefs_[0] = np.ones((4, 5)); m.predict_proba(X)")
_add("coefs_ replaced, partial_fit", "m = c().fit(X, ym); m.coefs_[0] = m.coefs_[0] * 2; m.predict_proba(X)")
_add("coefs_ by integers", "m = c().fit(X, ym); m.coefs_ = [np.ones((4, 5), int), np.ones((5, 3), int)]; m.predict_proba(X)")
_add("coefs_ that do not chain", "m = c().fit(X, ym); m.coefs_[1] = np.ones((4, 3)); m.predict_proba(X)")
_add("coefs_ for other features", "m = c().fit(X, ym); m.coefs_[0] = np.ones((3, 5)); m.predict_proba(X)")
_add(
    "coefs_ for other classes", "m = c().fit(X, ym); m.coefs_[1], m.intercepts_[1] = np.ones((5, 2)), np.ones(2); m.predict(X)"
)
_add("coefs_ of one dimension", "m = c().fit(X, ym); m.coefs_[0] = np.ones(4); m.predict_proba(X)")
_add("coefs_ of words", "m = c().fit(X, ym); m.coefs_[0] = np.full((4, 5), 'a'); m.predict_proba(X)")
_add("intercepts_ too few", "m = c().fit(X, ym); m.intercepts_.pop(); m.predict_proba(X)")
_add("intercepts_ too long", "m = c().fit(X, ym); m.intercepts_[0] = np.ones(6); m.predict_proba(X)")
_add("intercepts_ of a row", "m = c().fit(X, ym); m.intercepts_[0] = np.ones((1, 5)); m.predict_proba(X)")
_add(
    "coefs_ narrower, partial_fit",
    """
    m = c().fit(X, ym)
    m.coefs_, m.intercepts_ = [np.ones((4, 2)), np.ones((2, 3))], [np.zeros(2), np.zeros(3)]
    m.partial_fit(X, ym)
""",
)
_add("coefs_ read-only", "m = c().fit(X, ym); m.coefs_[0] = m.coefs_[0] * 1; m.coefs_[0].flags.writeable = False; m.predict(X)")

# ---- what a refused fit leaves ------------------------------------------------------------------------------------------

for _name, _call in {
    "other rows": "fit(X, yb[:3])",
    "columns": "fit(X[:, :2], yb[:3])",
    "classes": "fit(X[:, :3], np.where(yb > 0, np.nan, 0))",
    "weights": "fit(X[:, :3], yb, sample_weight=w[:3])",
    "validation": "set_params(early_stopping=True, validation_fraction=0.01).fit(X[:, :3], yb)",
    "partial_fit classes": "partial_fit(X, ym + 5)",
    "partial_fit columns": "partial_fit(X[:, :3], ym)",
}.items():
    _add(
        f"refused, then {_name}",
        f"""
        m = c().fit(X, ym)
        try:
            m.{_call}
        except ValueError:
            pass
        full(m, X, ym)
    """,
    )
_add(
    "first refused",
    """
    m = c()
    try:
        m.partial_fit(X, yr, classes=[0, 1])
    except ValueError:
        pass
    sorted(name for name in vars(m) if name.endswith('_'))
""",
)

# ---- among scikit-learn's tools ----------------------------------------------------------------------------------------

TOOLS = {
    "clone": "from sklearn.base import clone; m = clone(c().fit(X, ym)); [hasattr(m, 'coefs_'), m.alpha]",
    "repr": "repr(c(alpha=3))",
    "parameters": "sorted(set(C().get_params()) - {'class_weight', 'dropout', 'callbacks', 'n_threads'})",
    "pickle": "import pickle; full(pickle.loads(pickle.dumps(c().fit(X, ym))), X, ym)",
    "pickle, partial_fit": "import pickle; m = pickle.loads(pickle.dumps(c().fit(X, ym))); everything(m.partial_fit(X, ym))",
    "deepcopy": "import copy; m = copy.deepcopy(c().fit(X, ym)); everything(m.partial_fit(X, ym))",
    "copy": "import copy; m = c().fit(X, ym); n = copy.copy(m); n.partial_fit(X, ym); [m.coefs_, n.coefs_]",
    "cross_val_score": "from sklearn.model_selection import cross_val_score; cross_val_score(r(), X, yr, cv=3)",
    "cross_val_predict": """
        from sklearn.model_selection import cross_val_predict
        cross_val_predict(c(), X, ym, cv=3, method='predict_proba')
    """,
    "grid": """
        from sklearn.model_selection import GridSearchCV
        GridSearchCV(c(), {'alpha': [1e-4, 10.]}, cv=2).fit(X, ym).cv_results_['mean_test_score']
    """,
    "grid with an error": """
        from sklearn.model_selection import GridSearchCV
        GridSearchCV(c(), {'alpha': [1e-4, -1]}, cv=2).fit(X, ym).cv_results_['mean_test_score']
    """,
    "pipeline": """
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler
        make_pipeline(StandardScaler(), c()).fit(X, ys).predict(X)
    """,
    "voting": """
        from sklearn.ensemble import VotingClassifier
        VotingClassifier([('a', c()), ('b', c(random_state=1))], voting='soft').fit(X, ys).predict_proba(X)
    """,
    "bagging": "from sklearn.ensemble import BaggingRegressor; BaggingRegressor(r(), 3, random_state=0).fit(X, yr).predict(X)",
    "stacking": """
        from sklearn.ensemble import StackingRegressor
        StackingRegressor([('a', r()), ('b', r(random_state=1))], cv=2).fit(X, yr).predict(X)
    """,
    "boosting": """
        from sklearn.ensemble import AdaBoostRegressor
        AdaBoostRegressor(r(), n_estimators=2, random_state=0).fit(X, yr).predict(X)
    """,
    "one against rest": """
        from sklearn.multiclass import OneVsRestClassifier
        OneVsRestClassifier(c()).fit(X, ys).predict_proba(X)
    """,
    "multioutput": "from sklearn.multioutput import MultiOutputRegressor; MultiOutputRegressor(r()).fit(X, Y2).predict(X)",
    "chain": """
        from sklearn.multioutput import ClassifierChain
        ClassifierChain(c(), random_state=0).fit(X, yl).predict_proba(X)
    """,
    "calibrated": """
        from sklearn.calibration import CalibratedClassifierCV
        CalibratedClassifierCV(c(), cv=2).fit(X, yb).predict_proba(X)
    """,
    "target": """
        from sklearn.compose import TransformedTargetRegressor
        TransformedTargetRegressor(r(), func=np.arcsinh, inverse_func=np.sinh).fit(X, yr).predict(X)
    """,
    "permutation": """
        from sklearn.inspection import permutation_importance
        permutation_importance(r().fit(X, yr), X, yr, n_repeats=2, random_state=0).importances
    """,
    "learning curve": """
        from sklearn.model_selection import learning_curve
        learning_curve(c(), X, yb, cv=2, train_sizes=[0.5, 1.0])[1:]
    """,
    "scorer": "from sklearn.metrics import get_scorer; get_scorer('neg_log_loss')(c().fit(X, ym), X, ym)",
    "frozen": "from sklearn.frozen import FrozenEstimator; FrozenEstimator(c().fit(X, ym)).fit(X, ym).predict(X)",
    "kinds": "from sklearn.base import is_classifier, is_regressor; [is_classifier(c()), is_regressor(r()), is_regressor(c())]",
    "tags": "t = c().__sklearn_tags__(); [t.input_tags.sparse, t.classifier_tags.multi_label, t.estimator_type]",
    "fitted": "from sklearn.utils.validation import check_is_fitted; check_is_fitted(c().fit(X, ym)); check_is_fitted(c())",
    "frame": "import pandas as pd; m = c().fit(pd.DataFrame(X, columns=list('abcd')), ym); [m.feature_names_in_, m.predict(X)]",
    "frame in other order": """
        import pandas as pd
        D = pd.DataFrame(X, columns=list('abcd'))
        c().fit(D, ym).predict(D[list('bacd')])
    """,
    "frame of words": "import pandas as pd; c().fit(pd.DataFrame({'a': ys}), ym)",
    "series": "import pandas as pd; m = r().fit(pd.DataFrame(X), pd.Series(yr)); m.predict(pd.DataFrame(X))",
    "series with a gap": "import pandas as pd; r().fit(X, pd.Series(yr).where(yr < 1))",
    "nullable": "import pandas as pd; r().fit(pd.DataFrame(X).astype('Float64'), pd.Series(yp).astype('Int64')).coefs_",
    "categories": "import pandas as pd; c().fit(X, pd.Series(ys, dtype='category')).predict(X)",
    "routing": "C().set_fit_request(sample_weight=True)",
    "skipped checks": """
        import sklearn
        with sklearn.config_context(skip_parameter_validation=True):
            m = c(alpha=-1).fit(X, yb)
        m.coefs_
    """,
    "isinstance": "import sklearn.neural_network as s; [isinstance(c(), s.MLPClassifier), isinstance(r(), s.MLPRegressor)]",
}
for _name, _text in TOOLS.items():
    _add(_name, _text)

# ---- deliberate differences: the reason, how what is found starts, and the programs ------------------------------------

DIFFERENCES: list[tuple[str, str, list[str]]] = [
    (
        "the message names y; theirs is of NumPy's subtraction, a kind of TypeError (of a decomposition for a sparse y)",
        "TypeError('y must hold real numbers",
        [f"y {how}{kind}" for how in ("", "partial ") for kind in ("strings", "words", "dates", "spans", "sparse", "bytes")],
    ),
    ("the message names X", "TypeError('X must hold real numbers", ["predict dates"]),
    (
        "theirs trains on a loss of NaN",
        "ValueError(\"y must be at least 0 for loss='poisson'",
        ["poisson below zero"],
    ),
    (
        "theirs fails in the middle of a fit, or trains on garbage by broadcasting",
        "ValueError('y must have",
        [f"{how} {old}" for old in ("yr Y2", "Y2 yr") for how in ("partial_fit",)]
        + [f"warm {old} {solver}" for old in ("yr Y2", "Y2 yr") for solver in ("adam", "sgd", "lbfgs")]
        + ["warm labels"],
    ),
    (
        "theirs ignores the new layers, or fails in the middle",
        "ValueError('hidden_layer_sizes must be",
        ["warm layers", "warm more layers", "changed hidden_layer_sizes=(6,)", "coefs_ narrower, partial_fit"],
    ),
    (
        "theirs takes the loss of one objective and the outputs of another",
        'ValueError("loss must be that of the fit before',
        ["warm loss", "changed loss"],
    ),
    (
        "theirs goes on with the optimiser of the first call, whatever the settings",
        "value:",
        [f"changed {text}" for text in ("solver='sgd'", "learning_rate_init=0.1", "beta_1=0.5", "beta_2=0.5", "epsilon=0.1")]
        + [f"changed sgd {text}" for text in ("momentum=0.1", "nesterovs_momentum=False")]
        + ["changed sgd power_t=2., learning_rate='invscaling'"],
    ),
    (
        "theirs checks parameters at the first partial_fit only",
        "InvalidParameterError(",
        ["changed alpha=-1", "changed batch_size=-3", "changed activation='bogus'"],
    ),
    ("theirs is a KeyError", 'ValueError("activation must be one of', ["changed before predict activation='bogus'"]),
    (
        "the message names the array; theirs is of a NumPy function, or there is none and the predictions are garbage",
        "ValueError('coefs_",
        ["coefs_ that do not chain", "coefs_ for other features", "coefs_ for other classes", "coefs_ of one dimension"],
    ),
    ("the message names the array", "TypeError('coefs_[0] must hold real numbers", ["coefs_ of words"]),
    ("the message names the lists", "ValueError('coefs_ and intercepts_ must hold", ["intercepts_ too few"]),
    ("the message names the array", "ValueError('intercepts_[0] must have", ["intercepts_ too long"]),
    (
        "theirs has lost the fit before",
        "None where theirs is ValueError('X has 4 features",
        ["refused, then weights", "refused, then validation"],
    ),
    ("theirs is left with some attributes", "value:", ["first refused"]),
    (
        "theirs warns of NumPy's overflow; the kernels compute without a word",
        "warnings ['ConvergenceWarning'] where theirs are ['ConvergenceWarning', 'RuntimeWarning']",
        ["X huge", "X beyond float32", "diverged", "diverged early"],
    ),
    (
        "nothing counts in a batch without weight, and it is not an error in the middle of a fit",
        "None where theirs is ZeroDivisionError",
        ["weights zero in a batch"],
    ),
]
