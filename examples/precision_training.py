"""Train a small net on the bundled digits with 16-bit fixed point everywhere, nearest against stochastic rounding."""

import torch

from convsmith import data, models, precision, training
from convsmith.formats import Format
from convsmith.precision import Plan, Rule

dataset = data.open("digits")
preprocess, why = data.choose_preprocess(dataset)
weights, outputs = Format.fixed(2, 14), Format.fixed(6, 10)

for rounding in ("nearest_even", "stochastic"):
    roles = ("weight", "bias", "error", "weight_gradient", "update", "momentum")
    rules = (*(Rule("*", role, weights, rounding=rounding) for role in roles), Rule("*", "activation", outputs, rounding=rounding))
    plan = Plan(rules, f"16 bits, {rounding}", master=False)
    plan.save(f"{rounding}.json")
    torch.manual_seed(0)
    network = models.load("smallnet", classes=10, in_channels=1, input_size=(preprocess.height, preprocess.width))
    settings = training.Training(epochs=3, learning_rate=0.02, plan=plan.to_dict(), count_every=10)
    fit = training.fit(network, dataset, settings, preprocess=preprocess)
    stagnant = [row["stagnation"] / row["n"] for row in fit.counts if row["role"] == "update"]
    print(f"{plan.name}: validation {fit.best_accuracy:.1%}, {sum(stagnant) / len(stagnant):.0%} of updates below half a unit")
    precision.plot_counts(fit.counts, f"{rounding}.png")
