"""Writes metric_frame_{predictions,labels}.csv, random predictions of FairFace's tasks with columns that are no task, and
metric_frame_golden.json, what Fairlearn's MetricFrame says of them by these columns.

Run: python metric_frame_golden.py    (numpy 2.4, scikit-learn 1.9, fairlearn 0.15)

Probabilities are multiples of 1/128, so that CSV and f32 have them exactly.
"""

import csv
import json
import warnings
from pathlib import Path

import fairlearn.metrics as fl
import numpy as np
from sklearn.metrics import accuracy_score, f1_score

warnings.simplefilter("ignore")
here = Path(__file__).parent
rng = np.random.default_rng(20)
N = 300
LABELS = {
    "age": sorted(["0-2", "3-9", "10-19", "20-29", "30-39", "40-49", "50-59", "60-69", "more than 70"]),
    "gender": ["Female", "Male"],
    "race": sorted(
        ["White", "Black", "Latino_Hispanic", "East Asian", "Southeast Asian", "Indian", "Middle Eastern"]
    ),
}
SENSITIVE = {"skin_tone": (["I", "II", "III", "IV", "V", "VI"], [0.2, 0.25, 0.2, 0.15, 0.15, 0.05]),
             "camera": (["phone", "compact, old"], [0.7, 0.3])}


def draw(task):
    k = len(LABELS[task])
    targets = rng.choice(k, N)
    logits = rng.normal(0, 1.4, (N, k)) + 1.5 * np.eye(k)[targets]
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    parts = np.floor(p * 128).astype(int)
    parts[np.arange(N), p.argmax(1)] += 128 - parts.sum(1)
    assert (parts.sum(1) == 128).all() and parts.min() >= 0
    return targets, parts


def undefined_as_nan(rate, outcome):
    """A Fairlearn rate that is NaN where the group has no samples with that outcome; Fairlearn itself says 0."""
    return lambda y_true, y_pred: rate(y_true, y_pred, pos_label=1) if (y_true == outcome).any() else np.nan


TPR = undefined_as_nan(fl.true_positive_rate, 1)
FPR = undefined_as_nan(fl.false_positive_rate, 0)


def number(x):
    return float(x) if np.isfinite(x) else None


def main():
    drawn = {task: draw(task) for task in LABELS}
    sensitive = {name: rng.choice(labels, N, p=p) for name, (labels, p) in SENSITIVE.items()}
    files = [f"val/{i}.jpg" for i in range(N)]

    with open(here / "metric_frame_labels.csv", "w", newline="") as out:
        rows = csv.writer(out, lineterminator="\n")
        rows.writerow(["file", *LABELS, *SENSITIVE])
        for i in range(N):
            labels = [LABELS[task][drawn[task][0][i]] for task in LABELS]
            rows.writerow([files[i], *labels, *(sensitive[name][i] for name in SENSITIVE)])
    with open(here / "metric_frame_predictions.csv", "w", newline="") as out:
        rows = csv.writer(out, lineterminator="\n")
        rows.writerow(["file", *(f"{task}_{label}" for task in LABELS for label in LABELS[task])])
        # Another order, and paths from elsewhere.
        for i in rng.permutation(N):
            parts = np.concatenate([drawn[task][1][i] for task in LABELS])
            rows.writerow([f"/data/{i}.jpg", *(p / 128 for p in parts)])

    found = []
    for by in (["skin_tone"], ["camera"], ["skin_tone", "camera"]):
        groups = np.array([" / ".join(sensitive[name][i] for name in by) for i in range(N)])
        tasks = {}
        for task, labels in LABELS.items():
            y, predicted = drawn[task][0], drawn[task][1].argmax(1)
            frame = fl.MetricFrame(
                metrics={
                    "accuracy": accuracy_score,
                    "macro_f1": lambda a, b: f1_score(a, b, average="macro"),
                    "n": fl.count,
                },
                y_true=y, y_pred=predicted, sensitive_features=groups,
            )
            classes = []
            for c in range(len(labels)):
                one = fl.MetricFrame(
                    metrics={"selection_rate": fl.selection_rate, "true_positive_rate": TPR, "false_positive_rate": FPR},
                    y_true=(y == c) * 1, y_pred=(predicted == c) * 1, sensitive_features=groups,
                )
                difference, ratio = one.difference(), one.ratio()
                odds = ["true_positive_rate", "false_positive_rate"]
                classes.append({
                    "by_group": {g: {k: number(x) for k, x in row.items()} for g, row in one.by_group.iterrows()},
                    "demographic_parity_difference": number(difference["selection_rate"]),
                    "demographic_parity_ratio": number(ratio["selection_rate"]),
                    "equalized_odds_difference": number(np.nanmax([difference[k] for k in odds])),
                    "equalized_odds_ratio": number(np.nanmin([ratio[k] for k in odds])),
                })
            tasks[task] = {
                "overall": {k: float(x) for k, x in frame.overall.items()},
                "by_group": {g: {k: float(x) for k, x in row.items()} for g, row in frame.by_group.iterrows()},
                "group_min": float(frame.group_min()["accuracy"]),
                "group_max": float(frame.group_max()["accuracy"]),
                "difference": float(frame.difference()["accuracy"]),
                "ratio": float(frame.ratio()["accuracy"]),
                "classes": classes,
            }
        found.append({"by": ",".join(by), "tasks": tasks})

    def rounded(x):
        """12 decimals are enough for comparisons to 1e-9."""
        if isinstance(x, dict):
            return {key: rounded(value) for key, value in x.items()}
        if isinstance(x, list):
            return [rounded(value) for value in x]
        return round(x, 12) if isinstance(x, float) else x

    (here / "metric_frame_golden.json").write_text(json.dumps(rounded(found)) + "\n")


main()
