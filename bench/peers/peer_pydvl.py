"""pyDVL: the operators that its influence models are made of, with the Hessian of a squared error at its own prediction, which is the metric.

Its Gauss-Newton operator is none: it is that of the gradients' outer products.
"""
import torch
from pydvl.influence.torch.functional import operator_nystroem_approximation, operator_spectral_approximation
from pydvl.influence.torch.operator import CgOperator, HessianOperator, LowRankOperator
from pydvl.influence.torch.preconditioner import NystroemPreconditioner

from peer_curvlinops import DTYPES, PyTorch

def counted(model, weight, tick):
    prediction = model.module(model.x).detach()
    half = prediction.numel() * weight / 2
    operator = HessianOperator(model.module, lambda p, y: half * ((p - y) ** 2).mean(), [(model.x, prediction)])
    apply = operator.apply
    def counting(v):
        tick(v.shape[0] if v.ndim > 1 else 1)
        return apply(v)
    operator.apply = counting
    return operator

class CG(PyTorch):
    """A right-hand side after the other. Its tolerance is taken over the wrong axis, so iterations are set."""

    package, block, rank = "pydvl", False, None
    settings = [[{"dtype": dtype, "iterations": 10 * 2**k} for k in range(10)] for dtype in DTYPES]

    def works(self):
        model = self.models["float32"]
        operator, v = counted(model, self.problem.weight, lambda n: None), model.flat(self.problem.gradients[:1])[0]
        return {"pydvl": lambda: operator.apply(v)}

    def solve(self, damping, rhs, setting, tick):
        model = self.models[setting["dtype"]]
        g, operator = model.flat(rhs), counted(model, self.problem.weight, tick)
        preconditioner = None
        if self.rank:
            torch.manual_seed(0)
            preconditioner = NystroemPreconditioner(setting["rank"]).fit(operator, damping)
        inverse = CgOperator(operator, damping, rtol=1e-30, atol=1e-30, maxiter=setting["iterations"], preconditioner=preconditioner, use_block_cg=self.block, warn_on_max_iteration=False)
        return inverse.apply(g).detach().numpy(), g.numpy()

class BlockCG(CG):
    """All right-hand sides as a block."""

    block = True
    settings = [[{"dtype": dtype, "iterations": round(5 * 2 ** (k / 2))} for k in range(14)] for dtype in DTYPES]

class PreconditionedBlockCG(CG):
    """The same with a Nystroem preconditioner."""

    block, rank = True, 200
    settings = [[{"dtype": dtype, "iterations": round(2 * 2 ** (k / 2)), "rank": 200} for k in range(16)] for dtype in DTYPES]

class Nystroem(CG):
    settings = [[{"dtype": dtype, "rank": rank} for rank in (50, 100, 200, 400, 800, 1600)] for dtype in DTYPES]

    def solve(self, damping, rhs, setting, tick):
        model = self.models[setting["dtype"]]
        torch.manual_seed(0)
        g = model.flat(rhs)
        inverse = LowRankOperator(operator_nystroem_approximation(counted(model, self.problem.weight, tick), setting["rank"]), damping)
        return inverse.apply(g).detach().numpy(), g.numpy()

class Arnoldi(CG):
    """ARPACK's leading eigenpairs; the rest of the inverse as 1 / damping (use_woodbury), without which it is far off."""

    settings = [[{"dtype": dtype, "rank": rank} for rank in (50, 100, 200, 400, 800)] for dtype in DTYPES]

    def solve(self, damping, rhs, setting, tick):
        model = self.models[setting["dtype"]]
        g = model.flat(rhs)
        inverse = LowRankOperator(operator_spectral_approximation(counted(model, self.problem.weight, tick), setting["rank"], tol=1e-4), damping, exact=True)
        return inverse.apply(g).detach().numpy(), g.numpy()
