"""bergson: gradients of a network through its collector, which is what its cosine with approximate curvature is made of."""
import tempfile

import bergson
import datasets

from peer_curvlinops import PyTorch

class Collector(PyTorch):
    package = "bergson"
    settings = [[{"dtype": "float32"}]]

    def works(self):
        return {}

    def solve(self, damping, rhs, setting, tick):
        """Fails where bergson does not take such a network; if it once does, this is the place to go on."""
        model = self.models[setting["dtype"]]
        states = datasets.Dataset.from_dict({"input_ids": model.x.flatten(1).tolist(), "labels": model.y.flatten(1).tolist(), "length": [model.x[0].numel()] * len(model.x)})
        with tempfile.TemporaryDirectory() as folder:
            try:
                bergson.collect_gradients(model.module, states, bergson.GradientProcessor(), bergson.IndexConfig(run_path=folder))
            except AttributeError as fault:
                raise NotImplementedError(f"it takes models of transformers, of sequences of tokens: {fault}") from fault
        raise NotImplementedError("gradients are collected; no inverse of the metric is computed of them here")
