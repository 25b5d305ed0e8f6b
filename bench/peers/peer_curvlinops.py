"""curvlinops: its GGN on PyTorch, inverted by its conjugate gradients, and its KFAC."""
import importlib.metadata
import statistics
import time

import numpy
import torch
from curvlinops import CGInverseLinearOperator, GGNLinearOperator, KFACInverseLinearOperator, KFACLinearOperator

import torch_networks

DTYPES = {"float32": torch.float32, "float64": torch.float64}

def fewer(model):
    """Sets as many threads as make a gradient faster, one or all: on networks so small, and cores that others use, more are slower: by medians, since waiting for a core that others have is what makes them so."""
    times = {1: [], torch.get_num_threads(): []}
    for _ in range(5):
        for n, taken in times.items():
            torch.set_num_threads(n)
            for _ in range(9):
                start = time.perf_counter()
                torch.autograd.grad(model.loss(model.module(model.x)), list(model.module.parameters()))
                taken.append(time.perf_counter() - start)
    best = min(times, key=lambda n: statistics.median(times[n]))
    torch.set_num_threads(best)
    return best

class PyTorch:
    """What all peers on PyTorch share. The times are of PyTorch alone: the least of two ways."""

    package, compiles = "curvlinops-for-pytorch", False

    def __init__(self, problem):
        self.problem = problem
        self.models = {name: torch_networks.Model(problem, dtype) for name, dtype in DTYPES.items()}
        self.threads = fewer(self.models["float32"])
        self.version = f"{self.package} {importlib.metadata.version(self.package)}, PyTorch {torch.__version__}"

    def check(self):
        model = self.models["float64"]
        prediction = model.module(model.x)
        gradients = torch.autograd.grad(model.loss(prediction), list(model.module.parameters()))
        mine = dict(zip(model.order, gradients))
        names = model.problem.parameters
        return prediction.detach().numpy(), numpy.concatenate([self.back(name, mine[model.names[name]]).ravel() for name in names])

    @staticmethod
    def back(name, value):
        value = value.numpy()
        return value if name.endswith("/embedding") else value.transpose(2, 3, 1, 0) if value.ndim == 4 else value.T

    def works(self):
        model = self.models["float32"]
        parameters = {name: p.detach() for name, p in model.module.named_parameters()}
        leaves = list(model.module.parameters())
        f = lambda p: torch.func.functional_call(model.module, p, (model.x,))
        vectors = parameters
        transposed = torch.func.vjp(f, parameters)[1]
        @torch.no_grad()
        def product():
            return torch.func.vjp(f, parameters)[1](torch.func.jvp(f, (parameters,), (vectors,))[1])
        works = {"gradient": lambda: torch.autograd.grad(model.loss(model.module(model.x)), leaves), "product": product}
        try:
            linear = torch.func.linearize(f, parameters)[1]
            with torch.no_grad():
                transposed(linear(vectors))
            works["kept"] = torch.no_grad()(lambda: transposed(linear(vectors)))
        except (RuntimeError, NotImplementedError) as fault:
            print("torch.func.linearize:", fault)
        return works

    def products(self, request):
        return 0

def metric(model):
    """The GGN of PyTorch's mean squared error, which is twice the metric."""
    module = model.module
    return GGNLinearOperator(module, torch.nn.MSELoss(), list(module.parameters()), [(model.x, module(model.x).detach())], check_deterministic=False)

class CG(PyTorch):
    """All right-hand sides together by CGInverseLinearOperator. It stops at the mean of their relative residuals, or at so many iterations."""

    settings = [[{"dtype": dtype, "tolerance": 10.0**-k} for k in range(1, 9)] for dtype in DTYPES]

    def works(self):
        model, works = self.models["float32"], super().works()
        ggn = metric(model)
        v = model.flat(self.problem.gradients[:1])[0]
        works["curvlinops"] = lambda: ggn @ v
        return works

    def solve(self, damping, rhs, setting, tick):
        model = self.models[setting["dtype"]]
        g, ggn = model.flat(rhs), metric(model)

        class Damped(GGNLinearOperator):
            def __matmul__(self, v):
                tick(v.shape[1] if v.ndim > 1 else 1)
                return ggn @ v + 2 * damping * v

        damped = metric(model)
        damped.__class__ = Damped
        inverse = CGInverseLinearOperator(damped, tolerance=setting["tolerance"], max_iter=20_000, max_tridiag_iter=0, eps=1e-30, stop_updating_after=0.0)
        with torch.no_grad():
            return (2 * (inverse @ g.T.contiguous()).T).numpy(), g.numpy()

class KFAC(PyTorch):
    """The Kronecker-factored approximation of the same GGN and its inverse."""

    settings = [[{"dtype": "float32"}]]

    def solve(self, damping, rhs, setting, tick):
        model = self.models[setting["dtype"]]
        module, g = model.module, model.flat(rhs)
        kfac = KFACLinearOperator(module, torch.nn.MSELoss(), list(module.parameters()), [(model.x, module(model.x).detach())], check_deterministic=False)
        inverse = KFACInverseLinearOperator(kfac, damping=2 * damping, use_exact_damping=True)
        return (2 * (inverse @ g.T.contiguous()).T).numpy(), g.numpy()
