"""One peer at work, in a process of its own, whose peak of memory is the peer's.

    python worker.py <peer> <setup.json>

A peer is a class in a module peer_*.py, named module:class, with

    version, threads, compiles           of the library, how many it computes with, and whether a first call compiles
    check()                              prediction and gradient of the batch, in float64 where it can
    works()                              what is timed: functions by name, each of which returns when its result is there
    settings                             lists of them, each from the cheapest to the most precise
    solve(damping, rhs, setting, tick)   solutions of (eta + damping) x = g for the rows of rhs, and the right-hand sides in the same order of parameters,
                                         both as arrays; it calls tick(n) for n products where it can, which ends what takes longer than tick.limit

A request is a line of JSON on the standard input, the answer one on the standard output; bench/peers/symaudit does the same.
"""
import functools
import importlib
import json
import math
import os
import resource
import sys
import time
import traceback

import numpy

from export import Problem

class Late(Exception):
    pass

works_of = functools.cache(lambda peer: peer.works())  # compiled once

def answer(peer, problem, request):
    if request["do"] == "check":
        prediction, gradient = peer.check()
        return {"found": {"prediction": numpy.ravel(prediction).tolist(), "gradient": numpy.ravel(gradient).tolist(), "version": peer.version, "threads": peer.threads, "compiles": peer.compiles,
                          "settings": peer.settings}}
    if request["do"] == "time":
        works = works_of(peer)
        for work in works.values():  # compiles
            work()
        times, begin, turns = dict.fromkeys(works, math.inf), time.perf_counter(), 0
        while turns < 5 or time.perf_counter() - begin < request["limit"]:
            for name, work in works.items():
                start = time.perf_counter()
                work()
                times[name] = min(times[name], time.perf_counter() - start)
            turns += 1
        return {"times": times}
    rhs, products, start = problem.gradients, 0, time.perf_counter()
    def tick(n):
        nonlocal products
        products += n
        if time.perf_counter() - start > request["limit"]:
            raise Late
    tick.limit = request["limit"]
    try:
        x, g = peer.solve(request["lambda"], rhs, request["setting"], tick)
    except Late:
        return {"late": True, "seconds": time.perf_counter() - start, "products": products}
    x, g = numpy.asarray(x, float), numpy.asarray(g, float)
    forms = x @ g.T
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "late": seconds > request["limit"], "products": products or peer.products(request), "values": numpy.nan_to_num(forms[: problem.states], nan=1e300).tolist(),
            "norms": numpy.nan_to_num(numpy.diag(forms), nan=1e300).tolist()}

def main():
    out, sys.stdout = os.fdopen(os.dup(1), "w"), sys.stderr  # what libraries print is no answer
    module, name = sys.argv[1].split(":")
    problem = Problem(sys.argv[2])
    try:
        peer = getattr(importlib.import_module(module), name)(problem)
        fault = None
    except Exception:
        peer, fault = None, traceback.format_exc()
    for line in sys.stdin:
        try:
            reply = {"fault": fault} if fault else answer(peer, problem, json.loads(line))
        except Exception:
            reply = {"fault": traceback.format_exc()}
        reply["peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
        print(json.dumps(reply), file=out, flush=True)

if __name__ == "__main__":
    main()
