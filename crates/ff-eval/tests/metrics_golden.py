"""Prints the expected numbers of src/metrics.rs's tests. Run: python metrics_golden.py   (needs scikit-learn)"""
import numpy as np
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score, log_loss

probabilities = np.array(
    [[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.2, 0.5, 0.3], [0.3, 0.3, 0.4], [0.8, 0.1, 0.1], [0.9, 0.05, 0.05]]
)
targets = [0, 1, 2, 0, 1, 0]
predictions = probabilities.argmax(1)
print("accuracy", accuracy_score(targets, predictions))
print("balanced_accuracy", balanced_accuracy_score(targets, predictions))
print("macro_f1", f1_score(targets, predictions, average="macro"))
print("nll", log_loss(targets, probabilities))
