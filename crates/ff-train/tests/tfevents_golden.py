"""Writes tfevents_golden.bin, the expected bytes of src/tfevents.rs's tests, with TensorBoard's own writer.

Run: python tfevents_golden.py   (needs tensorboard)
"""
from pathlib import Path

from tensorboard.compat.proto import event_pb2
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

WALL_TIME = 1_700_000_000.25
VALUES = [("train/loss", 3.5), ("train/lr", 1e-4), ("val/größe", -0.0), ("nan", float("nan"))]


def summary(values):
    return Summary(value=[Summary.Value(tag=tag, simple_value=value) for tag, value in values])


start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
events = [
    event_pb2.Event(wall_time=WALL_TIME, file_version="brain.Event:2"),
    event_pb2.Event(wall_time=WALL_TIME, step=301, session_log=start),
    event_pb2.Event(wall_time=WALL_TIME + 1, step=301, summary=summary(VALUES)),
    event_pb2.Event(wall_time=WALL_TIME + 2, step=2**32 - 1 + 7, summary=summary(VALUES[:1])),
]
with open(Path(__file__).with_name("tfevents_golden.bin"), "wb") as file:
    writer = RecordWriter(file)
    for event in events:
        writer.write(event.SerializeToString(deterministic=True))
