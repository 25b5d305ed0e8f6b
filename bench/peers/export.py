"""A problem: a network with its weights, a batch and right-hand sides, from a folder that `symaudit export` wrote."""
import json
import pathlib

import numpy

class Problem:
    """Of setup.json, which table.py writes. Arrays are in float64 unless they say otherwise; right-hand sides are rows, those of the unmoved states first."""

    def __init__(self, setup):
        self.setup = json.loads(pathlib.Path(setup).read_text())
        self.folder = pathlib.Path(self.setup["export"])
        index = json.loads((self.folder / "index.json").read_text())
        metric, weights = index["metrics"][0], self.load("weights")
        self.weight, self.largest = metric["weight"], metric["lambda_max"]
        self.relative_lambdas = metric["relative_lambdas"]
        self.parameters = {p["name"]: weights[p["offset"] : p["offset"] + int(numpy.prod(p["shape"]))].reshape(p["shape"]) for p in index["parameters"]}
        self.x, self.y, self.prediction = (self.load(f"d4/{name}")[0].astype(float) for name in ("inputs", "targets", "predictions"))
        self.units = abs(self.y).max((1, 2), keepdims=True)  # of channels in the loss: gradients are of one state each
        self.states = len(self.x)
        gradients = self.load("d4/gradients_loss")  # element, draw, sample, parameter
        self.gradients = gradients.reshape(-1, gradients.shape[-1])
        self.gradient = self.gradients[: self.states].mean(0)  # of the batch
        self.kind = "unet" if "unet" in self.setup else "vit"
        self.settings, self.mean, self.scale = self.setup[self.kind], self.setup["mean"], self.setup["scale"]

    def load(self, name):
        return numpy.load(self.folder / f"{name}.npy")

    def split(self, vector):
        """A vector of all parameters as arrays by name."""
        at, parts = 0, {}
        for name, value in self.parameters.items():
            parts[name] = vector[at : at + value.size].reshape(value.shape)
            at += value.size
        return parts
