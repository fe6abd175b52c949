"""Prints the scalars of a folder's event files as TensorBoard reads them: {tag: [[step, value], ...]}.

Run: python tfevents_read.py DIR   (needs tensorboard; used by tests/tfevents.rs)
"""
import json
import sys

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

events = EventAccumulator(sys.argv[1], size_guidance={"scalars": 0}).Reload()
print(json.dumps({tag: [[e.step, e.value] for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}))
