"""Writes equalize_golden.json: what Fairlearn's ThresholdOptimizer finds for the gender predictions of
metric_frame_{predictions,labels}.csv, by skin tone and by camera.

Run: python equalize_golden.py    (numpy 2.4, scikit-learn 1.9, fairlearn 0.15)

Fairlearn looks at a grid of rates, so its optimum is one within a grid's step of the true one.
"""

import csv
import json
import warnings
from pathlib import Path

import numpy as np
from fairlearn.postprocessing import ThresholdOptimizer
from sklearn.base import BaseEstimator

warnings.simplefilter("ignore")
here = Path(__file__).parent
GRID = 20_000


class Scores(BaseEstimator):
    """A model whose score is its only feature."""

    def fit(self, x, y):
        return self

    def __sklearn_is_fitted__(self):
        return True

    def predict(self, x):
        return np.asarray(x)[:, 0]


def main():
    def rows(name):
        with open(here / f"metric_frame_{name}.csv", newline="") as file:
            return list(csv.DictReader(file))

    labels = rows("labels")
    scores = {Path(row["file"]).name: row for row in rows("predictions")}
    found = []
    for positive in ["Female", "Male"]:
        y = np.array([row["gender"] == positive for row in labels]).astype(int)
        x = np.array([[float(scores[Path(row["file"]).name][f"gender_{positive}"])] for row in labels])
        for by in ["skin_tone", "camera"]:
            groups = np.array([row[by] for row in labels])
            for parity, constraints in [("opportunity", "true_positive_rate_parity"), ("odds", "equalized_odds")]:
                optimizer = ThresholdOptimizer(
                    estimator=Scores(), constraints=constraints, objective="accuracy_score", grid_size=GRID,
                    prefit=True, predict_method="predict",
                )
                optimizer.fit(x, y, sensitive_features=groups)
                chance = optimizer._pmf_predict(x, sensitive_features=groups)[:, 1]
                rates = {
                    str(group): {
                        "n": int((groups == group).sum()),
                        "true_positive_rate": float(chance[(groups == group) & (y == 1)].mean()),
                        "false_positive_rate": float(chance[(groups == group) & (y == 0)].mean()),
                    }
                    for group in np.unique(groups)
                }
                found.append({
                    "class": positive, "by": by, "parity": parity, "grid": GRID,
                    "accuracy": float(np.where(y == 1, chance, 1 - chance).mean()), "groups": rates,
                })
    (here / "equalize_golden.json").write_text(json.dumps(found, indent=1) + "\n")


main()
