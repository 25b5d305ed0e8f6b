#!/usr/bin/env python3
"""The peer of BenchmarkBigFile.

    big.py write PATH N KIND    writes N trajectories in the shape of PDEGym's files: KIND is plain, deflate or contiguous
    big.py read PATH            reads them with h5py, one at a time, and prints the seconds and the peak of memory in MB
    big.py conserved PATH       the same, in conserved variables
    big.py sums PATH            prints the SHA-256 of all values as read, and of those in conserved variables
"""
import hashlib
import sys
import time

import h5py
import netCDF4
import numpy as np


def write(path, n, kind):
    shape = (int(n), 21, 5, 128, 128)
    rng = np.random.default_rng(1)
    how = {"contiguous": True} if kind == "contiguous" else {"chunksizes": (1, 1) + shape[2:], "zlib": kind == "deflate", "shuffle": kind == "deflate"}
    with netCDF4.Dataset(path, "w") as f:
        axes = ("sample", "time", "channel", "x", "y")
        for axis, size in zip(axes, shape):
            f.createDimension(axis, size)
        v = f.createVariable("data", "f4", axes, **how)
        for i in range(shape[0]):
            a = rng.random(shape[1:], dtype=np.float32)
            a[:, 0] += 1
            a[:, 3] += 0.5
            a[:, 4] = a[:, 3] * 2.5 + a[:, 0] * (a[:, 1] ** 2 + a[:, 2] ** 2) / 2
            v[i] = a


def trajectories(path):
    with h5py.File(path) as f:
        d = f["data"]
        a = np.empty(d.shape[1:], np.float32)
        for i in range(d.shape[0]):
            d.read_direct(a, np.s_[i])
            yield a


def in_conserved(a):
    return np.stack([a[:, 0], a[:, 0] * a[:, 1], a[:, 0] * a[:, 2], a[:, 4]], axis=-1)


def read(path, conserved):
    start = time.perf_counter()
    for a in trajectories(path):
        if conserved:
            in_conserved(a)
    seconds = time.perf_counter() - start
    with open("/proc/self/status") as status:  # ru_maxrss would have what the process had that started this one
        peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM:"))
    print(seconds, peak * 1.024e-3)


def sums(path):
    read, conserved = hashlib.sha256(), hashlib.sha256()
    for a in trajectories(path):
        read.update(a)
        conserved.update(in_conserved(a))
    print(read.hexdigest(), conserved.hexdigest())


if sys.argv[1] == "write":
    write(*sys.argv[2:])
elif sys.argv[1] == "sums":
    sums(sys.argv[2])
else:
    read(sys.argv[2], sys.argv[1] == "conserved")
