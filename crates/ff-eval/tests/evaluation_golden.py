"""Writes evaluation_golden.json: random predictions, and what scikit-learn, Fairlearn, SciPy and cleanlab say of them.

Run: python evaluation_golden.py    (numpy, scipy, pandas, scikit-learn 1.9, fairlearn 0.15, cleanlab 2.9)

Probabilities are multiples of 1/1024, so that f32 has them exactly. They are stored as those multiples.
"""

import json
import warnings
from itertools import combinations
from pathlib import Path

import fairlearn.metrics as fl
import numpy as np
from cleanlab.count import compute_confident_joint, get_confident_thresholds
from scipy.optimize import minimize_scalar
from scipy.stats import binomtest
from sklearn.metrics import accuracy_score, balanced_accuracy_score, confusion_matrix, f1_score, log_loss

N = 240
warnings.simplefilter("ignore")  # of scikit-learn: small groups do not have every class
# By class id, as the label encoder sorts them; "more than 70" and "3-9" are not where their age is.
LABELS = {
    "age": ["0-2", "10-19", "3-9", "more than 70"],
    "gender": ["Female", "Male"],
    "race": ["Black", "Indian", "White"],
}
AGE_RANKS = np.array([0, 2, 1, 3])
SHARES = {"age": [0.3, 0.35, 0.3, 0.05], "gender": [0.5, 0.5], "race": [0.5, 0.35, 0.15]}

rng = np.random.default_rng(3)


def draw(task):
    """Targets (N,) and probabilities (N, classes) in 1/1024, right more often than not and too sure of themselves."""
    k = len(LABELS[task])
    targets = rng.choice(k, N, p=SHARES[task])
    logits = rng.normal(0, 1.5, (N, k)) + 1.2 * np.eye(k)[targets]
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    parts = np.maximum(1, np.floor(p * 1024)).astype(int)
    parts[np.arange(N), parts.argmax(1)] += 1024 - parts.sum(1)
    assert (parts.sum(1) == 1024).all() and parts.min() >= 1
    return targets, parts


def calibration(p, y, bins=15):
    """Guo et al. 2017: bins (lower, upper], confidence against accuracy."""
    confidence, correct = p.max(1), p.argmax(1) == y
    place = np.ceil(confidence * bins).astype(int) - 1
    curve, ece = [], 0.0
    for b in range(bins):
        inside = place == b
        n = int(inside.sum())
        curve.append([n, confidence[inside].mean() if n else None, correct[inside].mean() if n else None])
        if n:
            ece += n / len(y) * abs(confidence[inside].mean() - correct[inside].mean())
    return ece, curve


def metrics(p, y, task):
    predicted = p.argmax(1)
    labels = list(range(p.shape[1]))
    ece, curve = calibration(p, y)
    # Where a class neither occurs nor is predicted, its F1 is left out: so f1_score without `labels`.
    figures = {
        "accuracy": accuracy_score(y, predicted),
        "balanced_accuracy": balanced_accuracy_score(y, predicted),
        "macro_f1": f1_score(y, predicted, average="macro"),
        "nll": log_loss(y, p, labels=labels),
        "ece": ece,
    }
    if task == "age":
        figures["one_off"] = np.mean(abs(AGE_RANKS[predicted] - AGE_RANKS[y]) <= 1)
    return figures, curve


def temperature(p, y):
    logits = np.log(p)

    def scaled(t):
        z = logits / t
        e = np.exp(z - z.max(1, keepdims=True))
        return e / e.sum(1, keepdims=True)

    def nll(log_t):
        return -np.log(scaled(np.exp(log_t))[np.arange(len(y)), y]).mean()

    t = float(np.exp(minimize_scalar(nll, bounds=(-4, 4), method="bounded", options={"xatol": 1e-12}).x))
    return {"temperature": t, "nll": nll(np.log(t)), "ece": calibration(scaled(t), y)[0]}


def label_errors(p, y):
    """Northcutt et al. 2021, written from the paper; cleanlab agrees where no sample's class is in question."""
    k = p.shape[1]
    thresholds = np.array([p[y == j, j].mean() for j in range(k)])
    joint, suspects, differs = np.zeros((k, k), int), [], 0
    for i in range(len(y)):
        reached = [j for j in range(k) if p[i, j] >= thresholds[j]]
        if not reached:
            continue
        j = max(reached, key=lambda j: p[i, j])
        # Of several classes that are reached, cleanlab takes the most probable of all classes.
        differs += len(reached) > 1 and p[i].argmax() != j
        joint[y[i], j] += 1
        if j != y[i]:
            suspects.append((p[i, y[i]] - np.delete(p[i], y[i]).max(), i, j))
    assert np.allclose(thresholds, get_confident_thresholds(y, p))
    theirs = compute_confident_joint(y, p, calibrate=False)
    assert differs > 0 or (theirs == joint).all(), (theirs, joint)
    print("confident joint", joint.tolist(), "cleanlab's", theirs.tolist(), "differing samples", differs)
    suspects.sort(key=lambda s: s[0])
    return {
        "thresholds": thresholds.tolist(),
        "confident_joint": joint.tolist(),
        "suspects": [[i, int(j), margin] for margin, i, j in suspects],
    }


def undefined_as_nan(rate, outcome):
    """A Fairlearn rate that is NaN where the group has no samples with that outcome; Fairlearn itself says 0."""
    return lambda y_true, y_pred: rate(y_true, y_pred, pos_label=1) if (y_true == outcome).any() else np.nan


TPR = undefined_as_nan(fl.true_positive_rate, 1)
FPR = undefined_as_nan(fl.false_positive_rate, 0)


def number(x):
    return None if x is None or not np.isfinite(x) else float(x)


def class_disparity(y, predicted, sensitive, counts):
    """One class against the rest, by Fairlearn; `counts` checks when the ready-made functions say the same."""
    frame = fl.MetricFrame(
        metrics={"selection": fl.selection_rate, "tpr": TPR, "fpr": FPR},
        y_true=y, y_pred=predicted, sensitive_features=sensitive,
    )
    difference, ratio = frame.difference(), frame.ratio()
    found = {
        "demographic_parity_difference": number(difference["selection"]),
        "demographic_parity_ratio": number(ratio["selection"]),
        "equalized_odds_difference": number(np.nanmax([difference["tpr"], difference["fpr"]])),
        "equalized_odds_ratio": number(np.nanmin([ratio["tpr"], ratio["fpr"]])),
    }
    data = {"sensitive_features": sensitive}
    assert np.isclose(found["demographic_parity_difference"], fl.demographic_parity_difference(y, predicted, **data))
    assert np.isclose(found["demographic_parity_ratio"], fl.demographic_parity_ratio(y, predicted, **data))
    present = frame.by_group.dropna(subset=["selection"])
    if not present[["tpr", "fpr"]].isna().any(axis=None):
        assert np.isclose(found["equalized_odds_difference"], fl.equalized_odds_difference(y, predicted, **data))
        assert np.isclose(found["equalized_odds_ratio"], fl.equalized_odds_ratio(y, predicted, **data))
        counts["as ready-made"] += 1
    else:
        counts["with undefined rates"] += 1
    return found


def rounded(x):
    """12 decimals are enough for comparisons to 1e-9."""
    if isinstance(x, dict):
        return {key: rounded(value) for key, value in x.items()}
    if isinstance(x, list):
        return [rounded(value) for value in x]
    return round(float(x), 12) if isinstance(x, float) else x


def main():
    drawn = {task: draw(task) for task in LABELS}
    targets = {task: y for task, (y, _) in drawn.items()}
    p = {task: parts / 1024 for task, (_, parts) in drawn.items()}
    predicted = {task: p[task].argmax(1) for task in LABELS}

    tasks = {}
    for task in LABELS:
        figures, curve = metrics(p[task], targets[task], task)
        tasks[task] = {
            "metrics": figures,
            "reliability": curve,
            "confusion": confusion_matrix(targets[task], predicted[task]).tolist(),
            "calibrated": temperature(p[task], targets[task]),
            "label_errors": label_errors(p[task], targets[task]),
        }

    groups, disparities, counts = [], [], {"as ready-made": 0, "with undefined rates": 0}
    for size in (1, 2, 3):
        for by in combinations(LABELS, size):
            names = np.array([" / ".join(LABELS[a][targets[a][i]] for a in by) for i in range(N)])
            for name in sorted(set(names)):
                inside = names == name
                found = {}
                for task, labels in LABELS.items():
                    y, q = targets[task][inside], predicted[task][inside]
                    right = int((y == q).sum())
                    wilson = binomtest(right, len(y)).proportion_ci(0.95, method="wilson")
                    found[task] = {
                        "accuracy": accuracy_score(y, q),
                        "macro_f1": f1_score(y, q, average="macro"),
                        "accuracy_interval": [wilson.low, wilson.high],
                        "selection_rate": [number(fl.selection_rate(y == c, q == c)) for c in range(len(labels))],
                        "true_positive_rate": [number(TPR((y == c) * 1, (q == c) * 1)) for c in range(len(labels))],
                        "false_positive_rate": [number(FPR((y == c) * 1, (q == c) * 1)) for c in range(len(labels))],
                    }
                groups.append({"by": ",".join(by), "group": name, "n": int(inside.sum()), "tasks": found})
            found = {}
            for task, labels in LABELS.items():
                y, q = targets[task], predicted[task]
                accuracy = fl.MetricFrame(metrics=accuracy_score, y_true=y, y_pred=q, sensitive_features=names)
                found[task] = {
                    "accuracy_difference": accuracy.difference(),
                    "accuracy_ratio": accuracy.ratio(),
                    "worst_accuracy": accuracy.group_min(),
                    "classes": None if task in by else [
                        class_disparity((y == c) * 1, (q == c) * 1, names, counts) for c in range(len(labels))
                    ],
                }
            disparities.append({"by": ",".join(by), "tasks": found})
    print(counts)
    assert min(counts.values()) > 0, "both kinds of comparison occur"

    golden = {
        "labels": LABELS,
        "targets": {task: y.tolist() for task, y in targets.items()},
        "probabilities_1024": {task: parts.ravel().tolist() for task, (_, parts) in drawn.items()},
        "tasks": tasks,
        "groups": groups,
        "disparities": disparities,
    }
    Path(__file__).with_suffix(".json").write_text(json.dumps(rounded(golden)) + "\n")


main()
