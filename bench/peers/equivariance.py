"""Local equivariance: symaudit's table local_errors, and the Lie derivative of the same networks at the same states by JAX.

    python equivariance.py <symaudit> <folder>

Generates data, trains the networks of checks.yaml, exports them, and audits them with --local-errors; all of it goes into the folder. The peer is the definition of
Gruver, Finzi, Goldblum and Wilson (The Lie Derivative for Measuring Learned Equivariance, 2022),

    L f(x) = d/dt g(-t).f(g(t).x) at t = 0,   error = mean of (L f(x))^2 over the outputs,

written here, for their program lie-deriv is no package and knows images alone: one forward derivative through the transforms themselves, in t. symaudit has rates of
transforms instead, and one in the network's input. Exits with 1 if the predictions or the errors are not the same.
"""
import json
import math
import pathlib
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy

import networks

jax.config.update("jax_enable_x64", True)

NETWORKS = {  # as in checks.yaml
    "unet": networks.unet([4, 4, 4], groups=2),
    "vit": networks.vit(patch=4, width=16, layers=2, heads=4, expansion=2),
}
SAME = 1e-9  # relative; both are in float64
TURNS = 3
Y, X = 1, 2  # axes of states [sample, y, x, channel]; rows go up
DENSITY, MOMENTUM, ENERGY = 0, {X: 1, Y: 2}, 3

def shifted(x, axis, cells):
    """The Fourier interpolant, shifted; of the highest mode of an even size only what is real."""
    shape = [-1 if a == axis else 1 for a in range(x.ndim)]
    waves = jnp.fft.fftfreq(x.shape[axis]).reshape(shape)
    return jnp.fft.ifft(jnp.fft.fft(x, axis=axis) * jnp.exp(-2j * jnp.pi * waves * cells), axis=axis).real

def interpolated(x, axis, cells):
    """Linear between cells, as lie-deriv's images are, whose derivative is that towards the next cell; but around the edges of a periodic box."""
    return (1 - cells) * x + cells * jnp.roll(x, -1, axis)

def boosted(x, axis, velocity):
    momentum = x[..., MOMENTUM[axis]]
    energy = x[..., ENERGY] + momentum * velocity + x[..., DENSITY] * velocity**2 / 2
    return x.at[..., MOMENTUM[axis]].set(momentum + x[..., DENSITY] * velocity).at[..., ENERGY].set(energy)

def transforms(step):
    """Of each generator how it moves an input, and an output, which a boost carries along by so many cells for each unit of its velocity."""
    along = lambda act, axis: lambda x, t: act(x, axis, t)
    drifting = lambda axis: lambda y, t: shifted(boosted(y, axis, t), axis, step * t)
    scaled = lambda x, t: x * jnp.exp(t)
    return {f"translations/translation_{name}": (along(shifted, axis),) * 2 for name, axis in (("x", X), ("y", Y))} | \
        {f"boosts/boost_{name}": (along(boosted, axis), drifting(axis)) for name, axis in (("x", X), ("y", Y))} | \
        {"scalings/scaling": (scaled, scaled)}

def peer(folder, model):
    """The errors of a network, and how far its predictions are off those of the export, relative to the largest; in a process of its own."""
    folder = pathlib.Path(folder)
    export, setup = folder / f"export-{model}", json.loads((folder / "setup.json").read_text())
    weights, index = numpy.load(export / "weights.npy"), json.loads((export / "index.json").read_text())
    p = {v["name"]: weights[v["offset"] : v["offset"] + math.prod(v["shape"])].reshape(v["shape"]) for v in index["parameters"]}
    f = jax.jit(lambda x: networks.advance(NETWORKS[model], p, x, jnp.asarray(setup["mean"]), jnp.asarray(setup["scale"])))  # and so is its derivative, once
    states = {group: [numpy.load(export / group / f"{name}.npy") for name in ("inputs", "predictions", "units")] for group in ("translations", "boosts", "scalings")}

    def errors():
        apart, found = 0.0, {}
        def lie(x, act, act_out):
            return jax.jvp(lambda t: act_out(f(act(x, t)), -t), (0.0,), (1.0,))[1]
        for of, (act, act_out) in transforms(setup["step"]).items():
            inputs, predictions, units = states[of.split("/")[0]]
            x, y = jnp.asarray(inputs[0]), f(inputs[0])  # the first element is the identity
            apart = max(apart, float(jnp.abs(y - predictions[0]).max() / jnp.abs(y).max()))
            # Errors of an audit are in the units of each channel of f(x), as the commutator error is.
            units = units * (jnp.sqrt(((y / units) ** 2).mean((1, 2), keepdims=True)) + 1e-6)
            each = lambda rate: (rate**2).mean((1, 2, 3)).tolist()
            rate = lie(x, act, act_out)
            found[of] = {"paper": each(rate), "units": each(rate / units)}
            if of.startswith("translations"):
                between = lambda x, t, axis=X if of.endswith("x") else Y: interpolated(x, axis, t)
                found[of]["linear"] = each(lie(x, between, between) / units)
        return apart, found

    errors()  # compiles
    start = time.perf_counter()
    apart, found = errors()
    print(json.dumps({"apart": apart, "errors": found, "again": time.perf_counter() - start}))

def normalization(data):
    """As models.FitNormalization of the states that networks are trained from."""
    description = json.loads((data / "data.json").read_text())
    train = description["splits"][0]
    assert train["name"] == "train" and train["first"] == 0
    states = numpy.concatenate([numpy.load(data / f"{f['name']}.npy")[: train["count"], :-1].reshape(-1, 4) for f in description["families"]]).astype(float)
    mean, scale = states.mean(0), states.std(0)
    momentum = list(MOMENTUM.values())
    mean[momentum], scale[momentum] = 0, math.sqrt((states[:, momentum] ** 2).mean())
    return {"mean": mean.tolist(), "scale": scale.tolist(), "step": description["interval"] * description["grid"][-1]}

def table(model, mine, theirs):
    """Prints a line for each generator, and returns how many values are not the same."""
    faults = 0
    for of, errors in theirs.items():
        ours, units = (numpy.asarray(v) for v in (mine[of], errors["units"]))
        apart = (abs(ours - units) / units).max()
        faults += not apart <= SAME
        linear = f"{numpy.mean(errors['linear']):12.4e}" if "linear" in errors else f"{'':12}"
        print(f"{model:6} {of.split('/')[1]:14} {ours.mean():12.4e} {units.mean():12.4e} {apart:10.1e} {numpy.mean(errors['paper']):12.4e} {linear}{'' if apart <= SAME else '  FAIL'}")
    return faults

def main():
    program, folder = (pathlib.Path(argument).resolve() for argument in sys.argv[1:])
    config = (pathlib.Path(__file__).parent / "checks.yaml").read_text()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "data.yaml").write_text(config)
    (folder / "checks.yaml").write_text(config.replace("data: {", f"data: {{directory: {json.dumps(str(folder / 'data'))}, "))

    def run(*command):
        done = subprocess.run([str(word) for word in command], cwd=folder, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{' '.join(map(str, command))}: {done.stderr}")
        return done.stdout

    def symaudit(*command):  # on GoMLX's Go backend: XLA compiles for longer than all of this takes
        return run(program, *command, "--backend", "go")

    symaudit("data", "generate", "--config", "data.yaml", "--out", "data")
    symaudit("train", "--config", "checks.yaml", "--dir", "run")
    (folder / "setup.json").write_text(json.dumps(normalization(folder / "data")))
    how = ("--metric", "identity", "--dtype", "float64")  # no solves
    print(f"Local equivariance: symaudit, and the definition of lie-deriv in JAX {jax.__version__}; networks of checks.yaml, 6 states, means over them, float64")
    print(f"{'':21} {'symaudit':>12} {'JAX':>12} {'apart':>10} {'mean of L^2':>12} {'interpolated':>12}")
    faults, times, values = 0, {}, 0
    for model in NETWORKS:
        symaudit("export", "run", "--model", model, *how, "--out", f"export-{model}")
        seconds = {"ours": [], "JAX": []}
        for turn in range(TURNS):
            audit = f"audit-{model}-{turn}"
            start = time.perf_counter()
            symaudit("audit", "run", "--model", model, *how, "--local-errors", "--out", audit)
            seconds["ours"].append(time.perf_counter() - start)
            start = time.perf_counter()
            answer = json.loads(run(sys.executable, __file__, "--peer", folder, model))
            seconds["JAX"].append(time.perf_counter() - start)
        mine = {}
        for row in map(json.loads, (folder / audit / "rows.jsonl").read_text().splitlines()):
            if row["table"] == "local_errors":
                mine.setdefault(f"{row['group_name']}/{row['generator']}", []).append(row["local_error"])
        if set(mine) != set(answer["errors"]):
            sys.exit(f"symaudit has the generators {sorted(mine)}, JAX {sorted(answer['errors'])}")
        values += sum(map(len, mine.values()))
        faults += table(model, mine, answer["errors"])
        print(f"{model:6} predictions of JAX are within {answer['apart']:.1e} of the exported ones{'' if answer['apart'] <= SAME else '  FAIL'}")
        faults += not answer["apart"] <= SAME
        times[model] = {who: min(each) for who, each in seconds.items()} | {"again": answer["again"]}
    for model, least in times.items():
        print(f"{model:6} the whole, shortest of {TURNS} in turns: symaudit audit {least['ours']:.1f} s (with all else of an audit but solves), JAX {least['JAX']:.1f} s, "
              f"ratio {least['ours'] / least['JAX']:.2f}; JAX once more, when all is compiled, {least['again']:.2f} s")
    print("verdict:", f"{faults} FAILED" if faults else f"{values} local errors are those of the definition to {SAME:.0e} of themselves")
    sys.exit(1 if faults else 0)

if __name__ == "__main__":
    peer(*sys.argv[2:]) if sys.argv[1] == "--peer" else main()
