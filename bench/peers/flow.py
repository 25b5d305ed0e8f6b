"""Compressible flow solved by pyro, an independent solver: the peer of BenchmarkVerifyData in trainer/euler.

States are arrays [y, x, 4] of density, momentum_x, momentum_y and energy on square cells. Prints a line of JSON.

    python flow.py shipped <name> <out.npy>      a result that the package pyro ships, and what it says of it
    python flow.py run <in.npy> <out.npy> <json> a state advanced; settings: cell (its side), time, boundary, limiter, steps (0: until time)
"""
import json
import math
import os
import pathlib
import sys
import tempfile
import time

os.environ["MPLBACKEND"] = "Agg"  # pyro loads a plotting library

import h5py
import numpy
import pyro
from pyro.pyro_sim import Pyro

NAMES = ["density", "x-momentum", "y-momentum", "energy"]

def shipped(name, out):
    with h5py.File(pathlib.Path(pyro.__file__).parent / "compressible" / "tests" / f"{name}.h5") as file:
        parameters = dict(file["runtime parameters"].attrs)
        numpy.save(out, numpy.stack([file["state"][n]["data"][...].T for n in NAMES], axis=-1))
        return {
            "time": float(file.attrs["time"]), "steps": int(file.attrs["nsteps"]), "gamma": float(file["aux"].attrs["gamma"]),
            "limiter": int(parameters["compressible.limiter"]), "cfl": float(parameters["driver.cfl"]),
        }

def run(source, out, settings):
    start = numpy.load(source)
    height, width, _ = start.shape

    def begin():
        simulation = Pyro("compressible")
        simulation.add_problem("given", fill)
        parameters = {
            "mesh.nx": width, "mesh.ny": height, "mesh.xmax": width * settings["cell"], "mesh.ymax": height * settings["cell"],
            "driver.tmax": settings["time"], "driver.max_steps": settings["steps"] or 10**9, "driver.cfl": 0.8,
            "compressible.limiter": settings["limiter"], "compressible.riemann": "HLLC",
        }
        parameters |= {f"mesh.{side}boundary": settings["boundary"] for side in ("xl", "xr", "yl", "yr")}
        simulation.initialize_problem("given", inputs_dict=parameters)
        return simulation

    def fill(data, _):
        for i, name in enumerate(NAMES):
            data.get_var(name).v()[:, :] = start[:, :, i].T

    simulation = begin()
    for _ in range(2):  # compiles
        simulation.single_step()
    simulation = begin()
    seconds = time.perf_counter()
    simulation.run_sim()
    seconds = time.perf_counter() - seconds
    data = simulation.sim.cc_data
    assert settings["steps"] or math.isclose(data.t, settings["time"]), f"pyro stopped at time {data.t} of {settings['time']}"
    numpy.save(out, numpy.stack([numpy.asarray(data.get_var(name).v()).T for name in NAMES], axis=-1))
    return {"steps": simulation.sim.n, "seconds": seconds, "time": float(data.t)}

def main():
    arguments = [os.path.abspath(a) if a.endswith(".npy") else a for a in sys.argv[2:]]
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)  # pyro writes its settings where it runs
        result = shipped(*arguments) if sys.argv[1] == "shipped" else run(*arguments[:2], json.loads(arguments[2]))
        os.chdir("/")
    print(json.dumps(result))

if __name__ == "__main__":
    main()
