"""The Jacobian of a problem's batch by JAX, in float64: of nothing of symaudit's but weights and states."""
import jax
import jax.numpy as jnp
import numpy

import networks

jax.config.update("jax_enable_x64", True)

def jacobian(problem):
    network = getattr(networks, problem.kind)(**problem.settings)
    p = {name: jnp.asarray(value) for name, value in problem.parameters.items()}
    x, mean, scale = (jnp.asarray(values, float) for values in (problem.x, problem.mean, problem.scale))
    def row(u):
        gradient = jax.vjp(lambda p: networks.advance(network, p, x, mean, scale), p)[1](u)[0]
        return jnp.concatenate([gradient[name].ravel() for name in problem.parameters])
    rows = jax.jit(lambda us: jax.lax.map(row, us))
    units, step = numpy.eye(x.size).reshape(-1, *x.shape), 256
    return numpy.concatenate([numpy.asarray(rows(units[i : i + step])) for i in range(0, len(units), step)])
