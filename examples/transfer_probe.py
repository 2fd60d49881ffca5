"""Score the stages of a pretrained network on images, and let the measurement choose what to do."""

import tempfile
from pathlib import Path

import torch
from safetensors.torch import save_file

from convsmith import data, models
from convsmith.interop import pretrained
from convsmith.training import features, probing

torch.manual_seed(0)
digits = data.open("digits")
with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "weights.safetensors"
    save_file(models.load("resnet20", classes=10).state_dict(), path)  # stands for a file of trained weights
    source = pretrained.find(path)
    preprocess = source.convention.preprocess(16)
    network = pretrained.load(source, input_size=(16, 16))
    stages = features.stages_of(network, preprocess)
    found = features.extract(network, digits.val, preprocess, stages)
    scores = probing.score_stages(found)
    for score in scores:
        print(f"{score.stage:10} {score.maps:3} maps  {100 * score.accuracy:.1f} %  LogME {score.log_evidence:.3f}  H {score.h_score:.2f}")
    print(probing.recommend(scores, found).reason)
