"""Steps of a training in JAX: the peer of BenchmarkTrainingStep in bench/training_test.go, which starts it.

    python train.py <folder>

The folder has setup.json, and arrays.npz with the batch and the parameters. For a number on a line of its standard input it trains for so many steps,
and prints a line of JSON: what each of them took in seconds, by the clock and of the processors, and its loss.
"""
import json
import pathlib
import resource
import sys
import time

import jax
import jax.numpy as jnp
import numpy

import networks

def adam(p, first, second, gradient, step, rate, decay):
    """As GoMLX's optimizer.Adam: decoupled weight decay, times the rate as well."""
    beta1, beta2, epsilon = (numpy.float32(value) for value in (0.9, 0.999, 1e-7))
    first = beta1 * first + (1 - beta1) * gradient
    second = beta2 * second + (1 - beta2) * gradient * gradient
    direction = rate * (first / (1 - beta1**step)) / (jnp.sqrt(second / (1 - beta2**step)) + epsilon)
    return p - (direction + rate * decay * p), first, second

def processors():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime

def main():
    folder = pathlib.Path(sys.argv[1])
    setup, arrays = json.loads((folder / "setup.json").read_text()), dict(numpy.load(folder / "arrays.npz"))
    before, after = arrays.pop("before"), arrays.pop("after")
    network = getattr(networks, setup["network"])(**setup["settings"])
    mean, scale = (jnp.asarray(setup[name], jnp.float32) for name in ("mean", "scale"))
    rate, decay = (numpy.float32(setup[name]) for name in ("rate", "decay"))

    def update(state, x, target):
        p, first, second, step = state
        loss, gradient = jax.value_and_grad(lambda p: networks.smse(target, networks.advance(network, p, x, mean, scale)))(p)
        step += 1
        new = {name: adam(p[name], first[name], second[name], gradient[name], step, rate, decay) for name in p}
        return tuple({name: each[i] for name, each in new.items()} for i in range(3)) + (step,), loss

    update = jax.jit(update, donate_argnums=0)
    p = jax.device_put(arrays)
    state = p, jax.tree.map(jnp.zeros_like, p), jax.tree.map(jnp.zeros_like, p), jnp.float32(0)
    del p
    print(json.dumps({"jax": jax.__version__, "parameters": sum(value.size for value in arrays.values())}), flush=True)
    for line in sys.stdin:
        seconds, processor_seconds, losses = [], [], []
        for _ in range(int(line)):
            start, start_processors = time.perf_counter(), processors()
            state, loss = jax.block_until_ready(update(state, before, after))
            losses.append(float(loss))
            seconds.append(time.perf_counter() - start)
            processor_seconds.append(processors() - start_processors)
        print(json.dumps({"seconds": seconds, "processors": processor_seconds, "losses": losses}), flush=True)

if __name__ == "__main__":
    main()
