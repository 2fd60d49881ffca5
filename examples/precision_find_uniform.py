"""Train a small net on the bundled digits for a few seconds, then find the fewest bits that keep its accuracy within one point."""

import numpy as np
import torch

from convsmith import data, models, precision, redesign, training
from convsmith.data.preprocess import normalise
from convsmith.interop import pytorch

dataset = data.open("digits")
preprocess, why = data.choose_preprocess(dataset)
torch.manual_seed(0)
network = models.load("smallnet", classes=10, in_channels=1, input_size=(preprocess.height, preprocess.width))
fit = training.fit(network, dataset, training.Training(epochs=3, precision="float32", channels_last=False), preprocess=preprocess)

graph = redesign.fold_batch_norm(pytorch.read(fit.module, (1, 1, preprocess.height, preprocess.width)))
x_train, x_val = (normalise(data.pixels(split, preprocess), preprocess) for split in (dataset.train, dataset.val))
ranges = precision.calibrate(graph, x_train[:256])
score = precision.scorer(graph, x_val, dataset.val.labels, calibration=ranges)

points = precision.sweep(graph, score, ranges=ranges, families=("int", "fixed"), tensors=("both",))
print(precision.points_table(points))
precision.plot(points, "bits.png", max_drop=1.0)

plan, evaluated = precision.find_uniform(graph, score, max_drop=1.0, ranges=ranges, done=points)
print(precision.explain(plan, evaluated, 1.0))
print(plan)
print(f"weights: {precision.weight_bytes(graph):,} bytes in float32, {precision.weight_bytes(graph, plan):,} under the plan")
plan.save("plan.json")

emulated = precision.emulate(graph, precision.Plan.load("plan.json"), ranges)
answers = emulated(torch.from_numpy(x_val)).argmax(1).numpy()
print(f"accuracy under the plan: {np.mean(answers == dataset.val.labels):.2%}")
print(precision.table(emulated.assignments))
