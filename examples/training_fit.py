"""Train a small network on the bundled digits with the training chosen from the data, within a few seconds."""

from __future__ import annotations

import torch

from convsmith import data, models, training

digits = data.open("digits")
preprocess, _ = data.choose_preprocess(digits)
config, reasons = training.choose(digits, preprocess, time_s=4)
print("\n".join(reasons))

torch.manual_seed(0)
name, _ = models.choose(digits, preprocess)
network = models.load(name, classes=len(digits.classes), in_channels=preprocess.channels, input_size=(preprocess.height, preprocess.width))
cost = training.quote(network, digits, config, preprocess)
print(f"quoted: {cost.seconds:.0f} s, {cost.memory_bytes / 2**20:.0f} MiB of memory")

fit = training.fit(network, digits, config, preprocess=preprocess)
logits = training.score(fit.module, digits.test, preprocess)
accuracy = (logits.argmax(1) == digits.test.labels).mean()
print(f"took {fit.seconds:.0f} s for {fit.epochs_done:.0f} epochs; {accuracy:.1%} of {len(digits.test)} test images are right")
