#!/usr/bin/env python3
"""The service that one writes in an afternoon: FastAPI and ONNX Runtime over crops, one at a time.

    pip install fastapi uvicorn onnxruntime pillow numpy
    fairface export --run runs/train-001 --format onnx --out model.onnx
    tests/peers/serve.py model.onnx            # serves http://127.0.0.1:8081
    tests/peers/serve.py load URL CLIENTS S    # clients that send the sample's crops for S seconds, to either server

`load` prints one JSON object: answers a second, p50 and p99 in milliseconds. Against `fairface serve` the URL is
http://127.0.0.1:8080/v1/faces?faces=crop, against this one http://127.0.0.1:8081/predict. ONNX Runtime has as many threads as
there are processors, and requests are computed in FastAPI's thread pool, so that several run at once.
"""
import glob, http.client, json, os, sys, threading, time, urllib.parse

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")


def serve(model):
    import io

    import numpy as np
    import onnxruntime
    import uvicorn
    from fastapi import FastAPI, Request
    from fastapi.concurrency import run_in_threadpool
    from PIL import Image

    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    mean = np.array([0.485, 0.456, 0.406], np.float32)
    deviation = np.array([0.229, 0.224, 0.225], np.float32)
    app = FastAPI()

    def judge(body):
        image = Image.open(io.BytesIO(body)).convert("RGB").resize((224, 224), Image.BILINEAR)
        pixels = (np.asarray(image, np.float32) / 255 - mean) / deviation
        outputs = session.run(None, {"images": pixels.transpose(2, 0, 1)[None]})
        return {name: output[0].tolist() for name, output in zip(names, outputs)}

    @app.post("/predict")
    async def predict(request: Request):
        return await run_in_threadpool(judge, await request.body())

    uvicorn.run(app, host="127.0.0.1", port=8081, log_level="warning", access_log=False)


def load(url, clients, seconds):
    url = urllib.parse.urlsplit(url)
    target = url.path + ("?" + url.query if url.query else "")
    crops = [open(path, "rb").read() for path in sorted(glob.glob(f"{ROOT}/data/sample/images/val/*.jpg"))[:64]]
    end = time.monotonic() + seconds
    times, other = [], []

    def client(first):
        connection = http.client.HTTPConnection(url.hostname, url.port)
        turn = first
        while time.monotonic() < end:
            begun = time.monotonic()
            connection.request("POST", target, crops[turn % len(crops)], {"Content-Type": "image/jpeg"})
            answer = connection.getresponse()
            answer.read()
            (times if answer.status == 200 else other).append(1e3 * (time.monotonic() - begun))
            turn += 1

    threads = [threading.Thread(target=client, args=(i,)) for i in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    times.sort()
    quantile = lambda q: round(times[int((len(times) - 1) * q)], 1) if times else None
    print(json.dumps({"clients": clients, "answers_per_s": round(len(times) / seconds, 1), "p50_ms": quantile(0.5),
                      "p99_ms": quantile(0.99), "refused": len(other)}))


if __name__ == "__main__":
    if sys.argv[1] == "load":
        load(sys.argv[2], int(sys.argv[3]), float(sys.argv[4]))
    else:
        serve(sys.argv[1])
