"""Ship a network as one ONNX file that takes pixels of any size, and check it on real images before it is kept."""

import torch

from convsmith import data, models, targets, training
from convsmith.interop import pytorch

dataset = data.open("digits")
preprocess, why = data.choose_preprocess(dataset)
torch.manual_seed(0)
network = models.load("smallnet", classes=10, in_channels=1, input_size=(preprocess.height, preprocess.width))
fit = training.fit(network, dataset, training.Training(epochs=3, precision="float32", channels_last=False), preprocess=preprocess)
graph = pytorch.read(fit.module, (1, 1, preprocess.height, preprocess.width))

images = [dataset.val.image(index) for index in range(len(dataset.val))]
expected = training.score(fit.module, dataset.val, preprocess)
shipped = targets.export(graph, preprocess, dataset.classes, "digits.onnx", images=images, expected_logits=expected)
print(f"{shipped.path}, {shipped.size_bytes:,} bytes: {shipped.parity}")

scores, labels = targets.predict("digits.onnx", images[:3])
for row in scores:
    print(labels[row.argmax()], f"{row.max():.1%}")

torch.set_num_threads(1)  # all runtimes with the same number of threads
module = fit.module.eval()
with torch.inference_mode():
    timed = targets.bench(graph, "digits.onnx", image_size=(8, 8), torch_run=lambda x: module(torch.from_numpy(x)), threads=1)
print(targets.table(timed["network"]))
print("from uint8 pixels to scores:")
print(targets.table(timed["file"]))
