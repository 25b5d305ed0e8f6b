"""The cost in JAX of a step of the solver, J v and J^T u on one batch: the peer of BenchmarkProduct in bench/product_test.go.

The models are those of package models: the same operations, and parameters of the same names and shapes. Their values are drawn anew,
since the time does not depend on them. Costs are the shortest times of many, all run in turns, as there.

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
from jax import lax

BATCH, CHANNELS = 4, 4
MEAN, SCALE = jnp.asarray([1.0, 0.0, 0.0, 1.0]), jnp.asarray([0.5, 0.3, 0.3, 0.5])  # of the states, as models.Normalization

# Networks ask for a parameter by get(name, shape, deviation, mean), the last two of its initial values.

def conv(get, name, x, width, kernel=3, stride=1, scale=1.0):
    deviation = scale * math.sqrt(2 / (kernel * kernel * x.shape[-1]))
    weights = get(f"{name}/weights", (kernel, kernel, x.shape[-1], width), deviation)
    if kernel == 3:  # the grid is periodic
        x = jnp.concatenate([x[:, -1:], x, x[:, :1]], axis=1)
        x = jnp.concatenate([x[:, :, -1:], x, x[:, :, :1]], axis=2)
    x = lax.conv_general_dilated(x, weights, (stride, stride), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    return x + get(f"{name}/biases", (width,))

def dense(get, name, x, width, scale=1.0):
    weights = get(f"{name}/weights", (x.shape[-1], width), scale / math.sqrt(x.shape[-1]))
    return x @ weights + get(f"{name}/biases", (width,))

def norm(get, name, x, groups=None):
    """Group norm of a grid; without groups, layer norm of tokens."""
    split, axes = (x, -1) if groups is None else (x.reshape(x.shape[0], -1, groups, x.shape[-1] // groups), (1, 3))
    centred = split - split.mean(axes, keepdims=True)
    split = centred / jnp.sqrt((centred * centred).mean(axes, keepdims=True) + 1e-5)
    return split.reshape(x.shape) * get(f"{name}/gain", x.shape[-1:], mean=1.0) + get(f"{name}/bias", x.shape[-1:])

def attention(get, name, x, heads):
    batch, tokens, channels = x.shape
    parts = dense(get, f"{name}/query_key_value", x, 3 * channels).reshape(batch, tokens, 3, heads, channels // heads)
    query, key, value = parts.transpose(2, 0, 3, 1, 4)
    weights = jax.nn.softmax(jnp.einsum("bhqc,bhkc->bhqk", query / math.sqrt(channels // heads), key))
    mixed = jnp.einsum("bhqk,bhkc->bhqc", weights, value)
    return dense(get, f"{name}/output", mixed.transpose(0, 2, 1, 3).reshape(x.shape), channels)

def unet(widths, groups):
    """One residual block at each resolution on the way down, two on the way up, no attention."""
    def residual(get, name, x, width):
        y = conv(get, f"{name}/conv_0", jax.nn.silu(norm(get, f"{name}/norm_0", x, groups)), width)
        y = conv(get, f"{name}/conv_1", jax.nn.silu(norm(get, f"{name}/norm_1", y, groups)), width)
        return y + (x if x.shape[-1] == width else conv(get, f"{name}/shortcut", x, width, kernel=1))

    def network(get, x):
        x = conv(get, "/unet/input", x, widths[0])
        skipped, last = [x], len(widths) - 1
        for level, width in enumerate(widths):
            x = residual(get, f"/unet/down_{level}/block_0", x, width)
            skipped.append(x)
            if level < last:
                x = conv(get, f"/unet/down_{level}/coarsen", x, width, stride=2)
                skipped.append(x)
        for block in range(2):
            x = residual(get, f"/unet/middle/block_{block}", x, widths[-1])
        for level in range(last, -1, -1):
            for block in range(2):
                x = residual(get, f"/unet/up_{level}/block_{block}", jnp.concatenate([x, skipped.pop()], axis=-1), widths[level])
            if level > 0:
                b, h, w, c = x.shape
                x = jnp.broadcast_to(x.reshape(b, h, 1, w, 1, c), (b, h, 2, w, 2, c)).reshape(b, 2 * h, 2 * w, c)
                x = conv(get, f"/unet/up_{level}/refine", x, widths[level])
        return conv(get, "/unet/output", jax.nn.silu(norm(get, "/unet/output/norm", x, groups)), CHANNELS, scale=0.1)
    return network

def vit(patch, width, layers, heads, expansion):
    def network(get, x):
        b, h, w, c = x.shape
        x = x.reshape(b, h // patch, patch, w // patch, patch, c).transpose(0, 1, 3, 2, 4, 5).reshape(b, -1, patch * patch * c)
        x = dense(get, "/vit/input", x, width)
        x = x + get("/vit/position/embedding", x.shape[1:], 0.02)
        for layer in range(layers):
            name = f"/vit/block_{layer}"
            x = x + attention(get, f"{name}/attention", norm(get, f"{name}/norm_0", x), heads)
            hidden = dense(get, f"{name}/expand", norm(get, f"{name}/norm_1", x), expansion * width)
            x = x + dense(get, f"{name}/contract", jax.nn.gelu(hidden, approximate=False), width)
        x = dense(get, "/vit/output", norm(get, "/vit/output/norm", x), patch * patch * c, scale=0.1)
        return x.reshape(b, h // patch, w // patch, patch, patch, c).transpose(0, 1, 3, 2, 4, 5).reshape(b, h, w, c)
    return network

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
    return x + SCALE * network(lambda name, *_, **__: p[name], (x - MEAN) / SCALE)

def loss(network, p, x, target):
    """audit.SMSE, averaged over the batch."""
    rms = jnp.sqrt((target * target).mean((1, 2), keepdims=True))
    return (((advance(network, p, x) - target) / rms) ** 2).mean()

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

    gradient = jax.jit(jax.value_and_grad(lambda p, x, target: loss(network, p, x, target)))
    forward = jax.jit(lambda p, x, v: jax.jvp(model(x), (p,), (v,))[1])
    reverse = jax.jit(lambda p, x, u: jax.vjp(model(x), p)[1](u))
    # A linearised function is a tree whose leaves are the residuals, so it may be the result of one program and an argument of another.
    # Its transpose is no slower than the function that jax.vjp returns, and shares the residuals.
    linear = jax.jit(lambda p, x: jax.linearize(model(x), p)[1])(p, x)
    apply = jax.jit(lambda linear, v: linear(v))
    transpose = jax.jit(lambda linear, u: jax.linear_transpose(linear, p)(u))
    times = shortest({
        "gradient": [lambda: gradient(p, x, target)],
        "recomputed": [lambda: forward(p, x, v), lambda: reverse(p, x, u)],
        "linearised": [lambda: apply(linear, v), lambda: transpose(linear, u)],
    })
    return {"name": name, "parameters": count, "milliseconds": times}

def main():
    rows = [measure(*architecture) for architecture in ARCHITECTURES]
    out = pathlib.Path(sys.argv[1])
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps({"jax": jax.__version__, "cores": os.cpu_count(), "architectures": rows}, indent=1) + "\n")
    print(f"JAX {jax.__version__} on {os.cpu_count()} cores, float32, {BATCH} samples; steps in gradients")
    print(f"{'':12} {'parameters':>10} {'gradient, ms':>12} {'step jvp+vjp':>12} {'step linearised':>15}")
    for row in rows:
        ms = row["milliseconds"]
        print(f"{row['name']:12} {row['parameters']:10,} {ms['gradient']:12.2f} "
              f"{ms['recomputed'] / ms['gradient']:12.2f} {ms['linearised'] / ms['gradient']:15.2f}")

if __name__ == "__main__":
    main()
