"""The plain service that serving is compared with: FastAPI, Pillow, NumPy and ONNX Runtime, as tutorials write it.

``NETWORK``: the bare network as ONNX; ``SETTING``: JSON of labels, side, mean, std; ``THREADS``: of ONNX Runtime in each process.
"""

import io
import json
import os

import numpy as np
import onnxruntime
from fastapi import FastAPI, HTTPException, Request
from PIL import Image

app = FastAPI()
setting = json.loads(os.environ["SETTING"])
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = int(os.environ["THREADS"])
session = onnxruntime.InferenceSession(os.environ["NETWORK"], options, providers=["CPUExecutionProvider"])
name = session.get_inputs()[0].name
mean, std = (np.array(setting[key], np.float32).reshape(3, 1, 1) for key in ("mean", "std"))


@app.get("/health")
def health() -> dict[str, bool]:
    return {"live": True}


@app.post("/predict")
async def predict(request: Request) -> dict[str, object]:
    body = await request.body()
    try:
        image = Image.open(io.BytesIO(body)).convert("RGB").resize((setting["side"], setting["side"]), Image.Resampling.BILINEAR)
    except Exception as error:
        raise HTTPException(400, str(error)) from None
    x = (np.asarray(image, np.float32).transpose(2, 0, 1) / 255 - mean) / std
    logits = session.run(None, {name: x[None]})[0][0]
    powers = np.exp(logits - logits.max())
    scores = powers / powers.sum()
    best = np.argsort(-scores)[:5]
    return {"class": setting["labels"][best[0]], "best": [{"class": setting["labels"][k], "score": float(scores[k])} for k in best]}
