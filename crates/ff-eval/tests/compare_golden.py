"""Writes compare_golden.json: two sets of predictions, and what scikit-learn, statsmodels and SciPy say of their differences.

Run: python compare_golden.py    (numpy 2.4, scipy 1.17, scikit-learn 1.9, statsmodels 0.15, fairlearn 0.15)

The first set is evaluation_golden.json's; the second is drawn here, for the same targets. Probabilities are multiples of
1/1024, so that f32 has them exactly.
"""

import json
import warnings
from pathlib import Path

import fairlearn.metrics as fl
import numpy as np
from scipy.stats import bootstrap
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score, log_loss
from statsmodels.stats.contingency_tables import mcnemar

warnings.simplefilter("ignore")
here = Path(__file__).parent
first = json.loads((here / "evaluation_golden.json").read_text())
rng = np.random.default_rng(11)
LABELS = first["labels"]
AGE_RANKS = np.array([0, 2, 1, 3])


def draw(y, p):
    """Probabilities (N, classes) in 1/1024 that lean on the first set's and on the targets."""
    k = p.shape[1]
    logits = np.log(p) * 0.6 + rng.normal(0, 0.9, p.shape) + 0.7 * np.eye(k)[y]
    q = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    parts = np.maximum(1, np.floor(q * 1024)).astype(int)
    parts[np.arange(len(y)), parts.argmax(1)] += 1024 - parts.sum(1)
    assert (parts.sum(1) == 1024).all() and parts.min() >= 1
    return parts


def ece(p, y, bins=15):
    confidence, correct = p.max(1), p.argmax(1) == y
    place = np.ceil(confidence * bins).astype(int) - 1
    inside = [place == b for b in range(bins)]
    return sum(i.mean() * abs(confidence[i].mean() - correct[i].mean()) for i in inside if i.any())


def figures(p, y, task):
    predicted = p.argmax(1)
    found = {
        "accuracy": accuracy_score(y, predicted),
        "balanced_accuracy": balanced_accuracy_score(y, predicted),
        "macro_f1": f1_score(y, predicted, average="macro"),
        "ece": ece(p, y),
        "nll": log_loss(y, p, labels=list(range(p.shape[1]))),
    }
    if task == "age":
        found["one_off"] = np.mean(abs(AGE_RANKS[predicted] - AGE_RANKS[y]) <= 1)
    return {key: float(value) for key, value in found.items()}


def test(a, b):
    """McNemar's test of who is right, by statsmodels: table [[both, only a], [only b, neither]]."""
    table = [[int((a & b).sum()), int((a & ~b).sum())], [int((~a & b).sum()), int((~a & ~b).sum())]]
    exact, chi = mcnemar(table, exact=True), mcnemar(table, exact=False, correction=True)
    return {
        "table": table,
        "exact_p": float(exact.pvalue),
        "chi_square": float(chi.statistic),
        "chi_square_p": float(chi.pvalue),
    }


def interval(differences):
    """SciPy's percentile bootstrap of the mean of paired differences."""
    found = bootstrap((differences,), np.mean, n_resamples=20000, method="percentile", batch=1000, rng=rng)
    return [float(found.confidence_interval.low), float(found.confidence_interval.high)]


def main():
    targets = {task: np.array(first["targets"][task]) for task in LABELS}
    n = len(targets["age"])
    a = {task: np.array(first["probabilities_1024"][task]).reshape(n, -1) / 1024 for task in LABELS}
    parts = {task: draw(targets[task], a[task]) for task in LABELS}
    b = {task: parts[task] / 1024 for task in LABELS}
    gender = np.array(LABELS["gender"])[targets["gender"]]

    rows, tests, intervals = [], [], {}
    for task, y in targets.items():
        for group in [None, "Female", "Male"]:
            inside = np.ones(n, bool) if group is None else gender == group
            of = [figures(p[task][inside], y[inside], task) for p in (a, b)]
            rows.append({"task": task, "group": group, "n": int(inside.sum()), "a": of[0], "b": of[1]})
            right = [(p[task].argmax(1) == y)[inside] for p in (a, b)]
            tests.append({"task": task, "group": group, **test(*right)})
        # Figures that are means of samples' own: SciPy takes an array of those, and is quick about it.
        of_samples = {
            "accuracy": [(p[task].argmax(1) == y) * 1.0 for p in (a, b)],
            "nll": [-np.log(p[task][np.arange(n), y]) for p in (a, b)],
        }
        intervals[task] = {key: interval(y - x) for key, (x, y) in of_samples.items()}
    gaps = {}
    for task, y in targets.items():
        accuracy = [
            fl.MetricFrame(metrics=accuracy_score, y_true=y, y_pred=p[task].argmax(1), sensitive_features=gender)
            for p in (a, b)
        ]
        gaps[task] = {
            "accuracy_gap": [float(frame.difference()) for frame in accuracy],
            "worst_accuracy": [float(frame.group_min()) for frame in accuracy],
        }

    counts = [(0, 1), (1, 0), (5, 5), (1, 20), (3, 4), (12, 31), (60, 61), (700, 810), (3000, 2900), (0, 1500)]
    of_counts = []
    for only_a, only_b in counts:
        exact = mcnemar([[9, only_a], [only_b, 4]], exact=True)
        chi = mcnemar([[9, only_a], [only_b, 4]], exact=False, correction=True)
        of_counts.append([only_a, only_b, float(exact.pvalue), float(chi.statistic), float(chi.pvalue)])

    golden = {
        "probabilities_1024": {task: p.ravel().tolist() for task, p in parts.items()},
        "rows": rows,
        "tests": tests,
        "intervals": intervals,
        "gaps": gaps,
        "counts": of_counts,
    }
    (here / "compare_golden.json").write_text(json.dumps(golden) + "\n")


main()
