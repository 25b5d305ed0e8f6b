"""The cost in JAX of a step of the solver, J v and J^T u on one batch: the peer of BenchmarkProduct in bench/product_test.go.

Parameters are drawn anew, since the time does not depend on them. Costs are the shortest times of many, all run in turns, as there.

    python step.py <file.json>
"""
import json
import math
import os
import pathlib
import random
import sys
import time

import jax
import jax.numpy as jnp
import numpy

import networks
from networks import unet, vit

BATCH, CHANNELS = 4, 4
TOGETHER = 8  # steps in one program, by jax.vmap
MEAN, SCALE = jnp.asarray([1.0, 0.0, 0.0, 1.0]), jnp.asarray([0.5, 0.3, 0.3, 0.5])  # of the states, as models.Normalization

# Name, grid, parameters of the Go model, network.
ARCHITECTURES = [
    ("unet-tiny", 32, 5_456, unet([4, 4, 4], groups=2)),
    ("vit-tiny", 32, 7_632, vit(patch=4, width=16, layers=2, heads=4, expansion=2)),
    ("unet-medium", 64, 1_312_996, unet([24, 48, 96], groups=8)),
    ("vit-medium", 64, 224_768, vit(patch=4, width=64, layers=4, heads=4, expansion=4)),
]

def parameters(network, x, draw):
    made = {}
    def get(name, shape, deviation=0.0, mean=0.0):
        made[name] = (mean + deviation * draw.standard_normal(shape)).astype(numpy.float32)
        return made[name]
    jax.eval_shape(lambda: network(get, x))
    return jax.device_put(made)

def advance(network, p, x):
    return networks.advance(network, p, x, MEAN, SCALE)

def shortest(works):
    """The shortest time of each in milliseconds, over as many turns as BenchmarkProduct takes. The turn before compiles."""
    def run(work):
        for call in work:  # one after the other, since a solver makes u of J v
            jax.block_until_ready(call())
    for work in works.values():
        run(work)
    times, begin, turns = {name: math.inf for name in works}, time.perf_counter(), 0
    while turns < 5 or turns < 40 and time.perf_counter() - begin < 20:
        for name in random.sample(list(works), len(works)):
            start = time.perf_counter()
            run(works[name])
            times[name] = min(times[name], 1e3 * (time.perf_counter() - start))
        turns += 1
    return times

def measure(name, size, expected, network):
    draw = numpy.random.default_rng(1)
    x, target = (MEAN + SCALE * jnp.asarray(draw.standard_normal((BATCH, size, size, CHANNELS)), jnp.float32) for _ in range(2))
    p = parameters(network, x, draw)
    count = sum(value.size for value in p.values())
    assert count == expected, f"{name} has {count} parameters, the Go model {expected}"
    v, u, model = p, x, lambda x: lambda p: advance(network, p, x)

    gradient = jax.jit(jax.value_and_grad(lambda p, x, target: networks.smse(target, advance(network, p, x))))
    forward = jax.jit(lambda p, x, v: jax.jvp(model(x), (p,), (v,))[1])
    reverse = jax.jit(lambda p, x, u: jax.vjp(model(x), p)[1](u))
    # A linearised function is a tree whose leaves are the residuals, so it may be the result of one program and an argument of another.
    # Its transpose is no slower than the function that jax.vjp returns, and shares the residuals.
    linear = jax.jit(lambda p, x: jax.linearize(model(x), p)[1])(p, x)
    apply = jax.jit(lambda linear, v: linear(v))
    transpose = jax.jit(lambda linear, u: jax.linear_transpose(linear, p)(u))
    many_v, many_u = jax.tree.map(lambda a: jnp.stack([a] * TOGETHER), (v, u))
    apply_many, transpose_many = (jax.jit(jax.vmap(of, in_axes=(None, 0))) for of in (lambda linear, v: linear(v), lambda linear, u: jax.linear_transpose(linear, p)(u)))
    times = shortest({
        "gradient": [lambda: gradient(p, x, target)],
        "recomputed": [lambda: forward(p, x, v), lambda: reverse(p, x, u)],
        "linearised": [lambda: apply(linear, v), lambda: transpose(linear, u)],
        "together": [lambda: apply_many(linear, many_v), lambda: transpose_many(linear, many_u)],
    })
    times["together"] /= TOGETHER
    return {"name": name, "parameters": count, "milliseconds": times}

def main():
    rows = [measure(*architecture) for architecture in ARCHITECTURES]
    out = pathlib.Path(sys.argv[1])
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps({"jax": jax.__version__, "cores": os.cpu_count(), "architectures": rows}, indent=1) + "\n")
    print(f"JAX {jax.__version__} on {os.cpu_count()} cores, float32, {BATCH} samples; steps in gradients")
    print(f"{'':12} {'parameters':>10} {'gradient, ms':>12} {'step jvp+vjp':>12} {'step linearised':>15} {f'one of {TOGETHER} together':>17}")
    for row in rows:
        ms = row["milliseconds"]
        print(f"{row['name']:12} {row['parameters']:10,} {ms['gradient']:12.2f} "
              f"{ms['recomputed'] / ms['gradient']:12.2f} {ms['linearised'] / ms['gradient']:15.2f} {ms['together'] / ms['gradient']:17.2f}")

if __name__ == "__main__":
    main()
