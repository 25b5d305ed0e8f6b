"""The same networks, weights, batch and right-hand sides given to symaudit and its peers; one table of what they took.

    python table.py <folder of exports> <symaudit's side, built> [networks]

The folder has data/ and the exports, one a network of networks.json, and gets table.md and table.json. See docs/performance.md, "Beside other tools".
"""
import json
import math
import os
import pathlib
import platform
import subprocess
import sys
import time

import numpy

from export import Problem

HERE = pathlib.Path(__file__).parent
MARK = 0.01       # relative error, in the Frobenius norm, of influence and of the norms, that is asked for
GIVEN_UP = 10     # times symaudit's time, after which a peer is given up,
AT_LEAST, AT_MOST = 5, 20  # but seconds
TOLERANCES = (0.1, 0.05, 0.02, 0.005, 0.001)  # symaudit's
SINGLE_FROM = 1e-5                            # the least multiple of the largest eigenvalue at which audits take float32
LAMBDAS = (1e-2, 1e-4, 1e-6)                   # times the largest eigenvalue
FEWER = {"vit-medium": (1e-2, 1e-4)}          # where the smallest takes longer than the benchmark is worth
PEERS = [
    ("JAX, conjugate gradients of jax.scipy", ".venv", "peer_jax:CG"),
    ("JAX, the same on symaudit's XLA", ".venv", "peer_jax:CG"),
    ("curvlinops, CGInverseLinearOperator", ".venv-torch", "peer_curvlinops:CG"),
    ("curvlinops, KFAC inverse", ".venv-torch", "peer_curvlinops:KFAC"),
    ("pyDVL, conjugate gradients", ".venv-torch", "peer_pydvl:CG"),
    ("pyDVL, block conjugate gradients", ".venv-torch", "peer_pydvl:BlockCG"),
    ("pyDVL, the same with Nystroem preconditioner", ".venv-torch", "peer_pydvl:PreconditionedBlockCG"),
    ("pyDVL, Nystroem", ".venv-torch", "peer_pydvl:Nystroem"),
    ("pyDVL, Arnoldi", ".venv-torch", "peer_pydvl:Arnoldi"),
    ("bergson", ".venv-torch", "peer_bergson:Collector"),
]

def plugin():
    """What makes JAX use the XLA that symaudit uses, as symaudit does (docs/gomlx.md)."""
    library = pathlib.Path(os.environ.get("PJRT_PLUGIN_LIBRARY_PATH", "")) / "pjrt_c_api_cpu_plugin.so"
    return {"JAX_PLATFORMS": "plugin", "PJRT_NAMES_AND_LIBRARY_PATHS": f"plugin:{library}",
            "XLA_FLAGS": "--xla_cpu_experimental_ynn_fusion_type=-reduce"}

class Side:
    """A process that answers requests, and takes no time in between."""

    def __init__(self, label, command, **options):
        self.label = label
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=HERE, **options)
        self.peak, self.compiled = 0, set()

    def ask(self, **request):
        start, reply = time.perf_counter(), self.exchange(request)
        if request["do"] == "solve":  # shown as it goes: a table takes an hour
            took = f"{reply['seconds']:.2f} s" if "seconds" in reply else "no answer"
            print(f"  {self.label}: {json.dumps(request['setting'])} at lambda {request['lambda']:.2g}: {took}, {time.perf_counter() - start:.0f} s with compiling", file=sys.stderr, flush=True)
        return reply

    def exchange(self, request):
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            return {"fault": f"it ended with {self.process.wait()}"}
        reply = json.loads(line)
        self.peak = reply.pop("peak_mib")
        return reply

    def end(self):
        self.process.stdin.close()
        self.process.wait()

def check(problem, found, gradients):
    """How far predictions and gradients of the batch are from those exported; refuses to compare others."""
    apart = [numpy.linalg.norm(numpy.array(found[name]) - exact.ravel()) / numpy.linalg.norm(exact)
             for name, exact in (("prediction", problem.prediction), ("gradient", problem.gradient))]
    if not (apart[0] <= 1e-6 and apart[1] <= gradients):
        raise SystemExit(f"it is not the same network: predictions are {apart[0]:.1e} apart, gradients {apart[1]:.1e}")
    return [float(of) for of in apart]

class Exact:
    """The exact forms: a dense solve in NumPy in float64 with the exported Jacobian. Where there is none, the audit's own values, whose intervals must be far narrower than the mark."""

    def __init__(self, problem):
        self.problem, file = problem, problem.folder / "metric_0" / "jacobian.npy"
        self.dense = file.exists()
        self.of = "NumPy" if self.dense else "symaudit's intervals"
        if self.dense:
            jacobian = math.sqrt(problem.weight) * numpy.load(file)
            self.values, vectors = numpy.linalg.eigh(jacobian @ jacobian.T)
            self.images = vectors.T @ (jacobian @ problem.gradients.T)  # of the right-hand sides, along the eigenvectors

    def forms(self, relative):
        """The rows of the unmoved states, and the diagonal."""
        problem, damping = self.problem, relative * self.problem.largest
        if self.dense:  # G (J^T J + damping)^-1 G^T = (G G^T - (J G^T)^T (J J^T + damping)^-1 (J G^T)) / damping
            weights = 1 / (numpy.maximum(self.values, 0) + damping)
            all_forms = (problem.gradients @ problem.gradients.T - (self.images.T * weights) @ self.images) / damping
            return all_forms[: problem.states], numpy.diag(all_forms)
        at = problem.relative_lambdas.index(relative)
        influence, cosine = (problem.load(f"d4/{name}_loss")[0, at].transpose(1, 0, 2, 3).reshape(problem.states, -1, 3) for name in ("influence", "cosine"))
        if numpy.max(cosine[..., 2] - cosine[..., 1]) > 2 * MARK / 100:
            raise SystemExit(f"intervals at {relative} are too wide to be the measure; export with a smaller damping, too")
        rows, cosines = influence[..., 0], cosine[..., 0]
        nearest = abs(cosines).argmax(0), numpy.arange(cosines.shape[1])  # the row whose cosine says most of a norm
        return rows, (rows[nearest] / cosines[nearest]) ** 2 / numpy.diag(rows)[nearest[0]]

def symaudit(relative):
    """Its settings to search: in the precision that an audit takes, then in float64."""
    return [[{"dtype": dtype, "tolerance": t} for t in TOLERANCES] for dtype in ("float32", "float64") if dtype == "float64" or relative >= SINGLE_FROM]

def error(reply, exact):
    with numpy.errstate(over="ignore"):
        return float(max(numpy.linalg.norm(numpy.array(reply[name]) - of) / numpy.linalg.norm(of) for name, of in zip(("values", "norms"), exact)))

def cheapest(side, damping, exact, paths, limit):
    """The setting that reaches the mark in the least time, by halving the choice in each list; and the closest that any came. The first solve by a program compiles it and is repeated."""
    best, closest, fault = None, (math.inf, None), None
    for path in paths:
        if best and path[0]["dtype"] != best["setting"]["dtype"]:
            continue  # float64 is for what float32 does not reach
        low, high = 0, len(path)
        while low < high:
            middle = (low + high - 1) // 2
            request = {"do": "solve", "lambda": damping, "setting": path[middle], "limit": min(limit, best["seconds"] if best else limit)}
            reply = side.ask(**request)
            program = (path[middle]["dtype"], path[middle].get("together"))
            if program not in side.compiled and "fault" not in reply:
                side.compiled.add(program)
                reply = side.ask(**request)
            if "fault" in reply:
                fault = reply["fault"]
                break
            if reply.get("late") or "values" not in reply:
                high = middle  # a dearer one is late as well
                continue
            off = error(reply, exact)
            if off < closest[0]:
                closest = (off, reply["seconds"])
            if off <= MARK:
                high = middle
                if best is None or reply["seconds"] < best["seconds"]:
                    best = {**reply, "error": off, "setting": path[middle]}
            else:
                low = middle + 1
    return best, closest, fault

def again(damping, *sides):
    """The shortest times of the settings that sides were found to need, in turns: three, or up to ten while they take less than 4 seconds, as the shortest solves differ most."""
    shortest = [of["seconds"] if i == 0 else math.inf for i, (_, of) in enumerate(sides)]
    begin, turns = time.monotonic(), 0
    while turns < 3 or turns < 10 and time.monotonic() - begin < 4:
        turns += 1
        for i, (each, of) in enumerate(sides):
            reply = each.ask(do="solve", setting=of["setting"], limit=10 * of["seconds"] + 5, **{"lambda": damping})
            if "seconds" in reply and not reply.get("late"):
                shortest[i] = min(shortest[i], reply["seconds"])
    return shortest

def compare(name, folder, ours_command, rows):
    problem = Problem(folder / f"{name}.json")
    exact = Exact(problem)
    setup = str(folder / f"{name}.json")
    ours = Side("symaudit", [ours_command, setup])
    found = ours.ask(do="check")
    if "fault" in found:
        raise SystemExit(found["fault"])
    print(f"{name}: {len(problem.gradients[0]):,} parameters; exact values of {exact.of}; symaudit's predictions and gradients are {' and '.join(f'{apart:.0e}' for apart in check(problem, found['found'], 1e-4))} apart", flush=True)
    lambdas = FEWER.get(name, LAMBDAS)
    times, best, stated = ours.ask(do="time", limit=3)["times"], {}, {}
    for relative in lambdas:
        damping = relative * problem.largest
        forms = exact.forms(relative)
        best[relative], closest, fault = cheapest(ours, damping, forms, symaudit(relative), 120)
        if best[relative] is None:
            raise SystemExit(f"symaudit did not reach the mark at {relative}: {closest}, {fault}")
        said, truth = best[relative]["stated"], forms[0]
        held = (numpy.array(said["low"]) <= truth) & (truth <= numpy.array(said["high"]))
        stated[relative] = f"cosines ±{said['cosine']:.0e}; {held.sum()} of {held.size} hold"
    ours_peak = ours.peak
    for label, environment, module in PEERS:
        extra = plugin() if "symaudit's" in label else {}
        side = Side(label, [str(HERE / environment / "bin" / "python"), "worker.py", module, setup], stderr=subprocess.DEVNULL, env=os.environ | extra)
        reply = side.ask(do="check")
        row = {"network": name, "parameters": len(problem.gradients[0]), "peer": label, "solves": {}}
        rows.append(row)
        if "fault" in reply:
            row["reason"] = reply["fault"].strip().splitlines()[-1]
        else:
            row["version"], row["threads"], row["apart"] = reply["found"]["version"], reply["found"]["threads"], check(problem, reply["found"], 1e-6)
            settings = reply["found"]["settings"]
            if not reply["found"]["compiles"]:
                side.compiled = {(path[0]["dtype"], None) for path in settings}
            row["times"], row["times_of_symaudit"], late = {}, {}, False
            for _ in range(8):
                for each, shortest in ((side, [row["times"]]), (ours, [row["times_of_symaudit"], times])):
                    for what, took in each.ask(do="time", limit=0.5).get("times", {}).items():
                        for of in shortest:
                            of[what] = min(took, of.get(what, math.inf))
            for relative in lambdas:
                if late:
                    row["solves"][relative] = {"late": "not tried, as it was late at a larger one"}
                    continue
                damping, own = relative * problem.largest, best[relative]
                limit = min(max(GIVEN_UP * own["seconds"], AT_LEAST), AT_MOST)
                reached, closest, fault = cheapest(side, damping, exact.forms(relative), settings, limit)
                solve = row["solves"][relative] = {"limit": limit, "closest": closest[0], "of_symaudit": own["seconds"]}
                if reached:
                    solve["seconds"], solve["of_symaudit"] = again(damping, (side, reached), (ours, own))
                    own["seconds"] = min(own["seconds"], solve["of_symaudit"])
                    count = reached["products"] or side.ask(do="solve", setting=reached["setting"], limit=600, count=True, **{"lambda": damping}).get("products", 0)
                    solve |= {"setting": reached["setting"], "products": count, "error": reached["error"]}
                elif fault and not math.isfinite(closest[0]):
                    row["reason"] = fault.strip().splitlines()[-1]
                    break
                else:
                    solve["late"], late = f"not in {limit:.0f} s", True
        row["peak_mib"] = side.peak
        side.end()
        print(json.dumps(row), flush=True)
    rows.append({"network": name, "parameters": len(problem.gradients[0]), "peer": "symaudit", "version": "this tree", "times": times, "peak_mib": ours_peak, "stated": stated,
                 "solves": {r: {key: best[r][key] for key in ("seconds", "products", "error", "setting")} for r in lambdas}})
    print(json.dumps(rows[-1]), flush=True)
    ours.end()

def table(rows):
    lines = ["| network | tool | gradient, ms | J^T J v: anew, ms (ours / its) | kept, ms (ours / its) | λ/λ_max | to 1 %: s | products | ours / its | error reached | memory, MiB | states an error |",
             "|---|---|---|---|---|---|---|---|---|---|---|---|"]
    for i, row in enumerate(rows):
        times, ours = row.get("times", {}), row.get("times_of_symaudit")
        network = row["network"] if i == 0 or row["network"] != rows[i - 1]["network"] else ""
        def cell(*names):
            took = min((times[n] for n in names if n in times), default=None)
            if took is None:
                return ""
            return f"{1e3 * took:.2f}" + (f" ({ours[names[0]] / took:.2f})" if ours and names[0] != "gradient" else "")
        head = [network, row["peer"], cell("gradient"), cell("product", "curvlinops", "pydvl"), cell("kept")]
        memory = str(row["peak_mib"])
        if "reason" in row and not any("seconds" in s for s in row["solves"].values()):
            lines.append("| " + " | ".join([*head, "", "cannot: " + row["reason"].replace("|", "/")[:200], "", "", "", memory, ""]) + " |")
            continue
        for at, (relative, solve) in enumerate(row["solves"].items()):
            cells = head if at == 0 else ["", "", "", "", ""]
            said = row["stated"][relative] if "stated" in row else "no"
            if "seconds" in solve:
                ratio = f"{solve['of_symaudit'] / solve['seconds']:.3f}" if "of_symaudit" in solve else ""
                cells = [*cells, f"{relative:.0e}", f"{solve['seconds']:.2f}", f"{solve['products']:,}" if solve['products'] else "not counted", ratio, f"{solve['error']:.1e}"]
            else:
                closest = solve.get("closest", math.inf)
                ratio = f"< {solve['of_symaudit'] / solve['limit']:.3f}" if "limit" in solve else ""
                cells = [*cells, f"{relative:.0e}", solve["late"], "", ratio, f"{closest:.1e} at best" if math.isfinite(closest) else ""]
            lines.append("| " + " | ".join([*cells, memory if at == 0 else "", said]) + " |")
    return "\n".join(lines) + "\n"

def write_setups(folder, config):
    """setup.json of each network: where its export is, and what the export does not say: the architecture, and the normalization of its training's states."""
    training = config["data"]["trajectories"]
    x = numpy.concatenate([numpy.load(folder / "data" / f"{family}.npy")[:training, :-1].reshape(-1, 4) for family in config["data"]["families"]]).astype(float)
    mean, scale = x.mean(0), x.std(0)
    mean[1:3], scale[1:3] = 0, math.sqrt((x[:, 1:3] ** 2).mean())  # the momentum is a vector
    for model in config["models"]:
        setup = {"export": str((folder / model["name"]).resolve()), "mean": mean.tolist(), "scale": scale.tolist()}
        (folder / f"{model['name']}.json").write_text(json.dumps(setup | {kind: model[kind] for kind in ("unet", "vit") if kind in model}))

def main():
    folder, ours = pathlib.Path(sys.argv[1]).resolve(), str(pathlib.Path(sys.argv[2]).resolve())
    config = json.loads((HERE / "networks.json").read_text())
    wanted = sys.argv[3].split(",") if len(sys.argv) > 3 else [model["name"] for model in config["models"]]
    write_setups(folder, config)
    rows = []
    for name in wanted:
        compare(name, folder, ours, rows)
        (folder / "table.md").write_text(table(rows))
        environment = {"python": platform.python_version(), "system": platform.system(), "machine": platform.machine(), "cores": os.cpu_count(), "load": os.getloadavg(), "mark": MARK,
                       "versions": sorted({row["version"] for row in rows if "version" in row})}
        (folder / "table.json").write_text(json.dumps({"environment": environment, "rows": rows}, indent=1) + "\n")
    print(table(rows))

if __name__ == "__main__":
    main()
