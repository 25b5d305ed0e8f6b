"""JAX: the metric by jax.linearize and its transpose, whose residuals are kept; conjugate gradients of jax.scipy."""
import functools
import os
import time

import jax
import jax.numpy as jnp
import numpy
from jax.flatten_util import ravel_pytree

import networks

jax.config.update("jax_enable_x64", True)

MOST = 5_000  # iterations

class CG:
    """Right-hand sides one after the other, or all by jax.vmap, whichever is faster, in compiled programs that take any damping and tolerance."""

    version, threads, compiles = f"JAX {jax.__version__}", os.cpu_count(), True
    settings = [[{"dtype": dtype, "together": together, "tolerance": 10.0**-k} for k in range(1, 9)] for dtype in ("float32", "float64") for together in (False, True)]

    def __init__(self, problem):
        self.problem, self.network = problem, getattr(networks, problem.kind)(**problem.settings)
        self.kept, self.each = functools.cache(self.linearised), {}

    def model(self, dtype):
        """The network as a function of its parameters, and these."""
        problem = self.problem
        x, y, mean, scale = (jnp.asarray(values, dtype) for values in (problem.x, problem.y, problem.mean, problem.scale))
        return lambda p: networks.advance(self.network, p, x, mean, scale), {name: jnp.asarray(value, dtype) for name, value in problem.parameters.items()}, y

    def flat(self, tree):
        return jnp.concatenate([tree[name].ravel() for name in self.problem.parameters])

    def check(self):
        f, p, y = self.model("float64")
        return jax.jit(f)(p), self.flat(jax.jit(jax.grad(lambda p: networks.smse(y, f(p), self.problem.units)))(p))

    def linearised(self, dtype):
        """The derivative at the weights as a tree of residuals, and programs that solve and count."""
        f, p, _ = self.model(dtype)
        linear = jax.jit(lambda p: jax.linearize(f, p)[1])(p)
        weight = self.problem.weight
        unravel = ravel_pytree(p)[1]

        def solver(count):
            def solve(linear, damping, tolerance, most, g):
                transpose = jax.linear_transpose(linear, p)
                def apply(v):
                    if count is not None:
                        jax.debug.callback(count)
                    return jax.tree.map(lambda a, b: weight * a + damping * b, transpose(linear(v))[0], v)
                return ravel_pytree(jax.scipy.sparse.linalg.cg(apply, unravel(g), tol=tolerance, maxiter=most)[0])[0]
            return solve

        together = jax.vmap(solver(None), in_axes=(None, None, None, None, 0))
        return linear, jax.jit(solver(None)), jax.jit(together), jax.jit(solver(self.count))

    def fitting(self, program, linear, damping, g, limit):
        """How many iterations of a compiled program end within a limit, for nothing ends them sooner."""
        if program not in self.each:
            for _ in range(2):  # the first time compiles
                start = time.perf_counter()
                jax.block_until_ready(program(linear, damping, 0.0, 3, g))
                self.each[program] = (time.perf_counter() - start) / 3
        return max(1, min(MOST, int(limit / self.each[program])))

    def count(self):
        self.counted += 1

    def ordered(self, rhs, dtype):
        """Rows in the order in which JAX lays a tree out."""
        return numpy.stack([ravel_pytree({name: numpy.asarray(v) for name, v in self.problem.split(row).items()})[0] for row in rhs]).astype(dtype)

    def works(self):
        f, p, y = self.model("float32")
        v, weight = p, self.problem.weight
        linear = self.kept("float32")[0]
        gradient = jax.jit(jax.value_and_grad(lambda p: networks.smse(y, f(p), self.problem.units)))
        product = jax.jit(lambda p, v: jax.tree.map(lambda a: weight * a, jax.vjp(f, p)[1](jax.jvp(f, (p,), (v,))[1])[0]))
        kept = jax.jit(lambda linear, v: jax.tree.map(lambda a: weight * a, jax.linear_transpose(linear, p)(linear(v))[0]))
        return {name: functools.partial(lambda work: jax.block_until_ready(work()), work) for name, work in
                {"gradient": lambda: gradient(p), "product": lambda: product(p, v), "kept": lambda: kept(linear, v)}.items()}

    def solve(self, damping, rhs, setting, tick, counting=False):
        linear, alone, together, counted = self.kept(setting["dtype"])
        g = self.ordered(rhs, setting["dtype"])
        if setting["together"] and not counting:
            return together(linear, damping, setting["tolerance"], self.fitting(together, linear, damping, g, tick.limit), g), g
        x, most = [], MOST if counting else self.fitting(alone, linear, damping, g[0], tick.limit)
        for row in g:
            x.append(numpy.asarray((counted if counting else alone)(linear, damping, setting["tolerance"], most, row)))
            tick(0)
        return numpy.stack(x), g

    def products(self, request):
        """Those of the same solve again, one right-hand side after the other, where it is asked for: conjugate gradients of JAX do not say how many they took."""
        if not request.get("count"):
            return 0
        self.counted = 0
        self.solve(request["lambda"], self.problem.gradients, request["setting"], lambda n: None, counting=True)
        jax.effects_barrier()
        return self.counted
