#!/usr/bin/env python3
"""Writes the files that the tests of pdegym read, beside itself. Written with h5py 3.16.0, netCDF4 1.7.5.1 and NumPy 2.4.6.

    pip install h5py netCDF4 numpy && python3 make.py

Values follow from their place (values() below, and value() in pdegym_test.go): float32 with all bits in use, and energy from the
other channels, so that the tests compare every value bit for bit without Python.
"""
import os
import zlib

import h5py
import netCDF4
import numpy as np

SNAPSHOTS, SIZE, CHUNKS = 3, 8, (1, 1, 5, 8, 8)


def values(n, first=0, height=SIZE, width=SIZE):
    """n trajectories [n, time, channel, y, x], the first of them of number first."""
    shape = (n, SNAPSHOTS, 5, height, width)
    place = np.arange(first * SNAPSHOTS * 5 * height * width, (first + n) * SNAPSHOTS * 5 * height * width, dtype=np.uint64)
    k = ((place * np.uint64(2654435761) % np.uint64(2**32)) >> np.uint64(10)).astype(np.float64).reshape(shape)
    a = np.empty(shape, np.float64)
    a[:, :, 0] = 1 + k[:, :, 0] / 2**23
    a[:, :, 1:3] = k[:, :, 1:3] / 2**22 - 0.5
    a[:, :, 3] = 0.125 + k[:, :, 3] / 2**24
    a[:, :, 4] = a[:, :, 3] * 2.5 + a[:, :, 0] * (a[:, :, 1] * a[:, :, 1] + a[:, :, 2] * a[:, :, 2]) / 2
    return a.astype(np.float32)


def h5(name, data, libver="earliest", variable="data", dtype="<f4", more=0, **how):
    with h5py.File(name, "w", libver=libver) as f:
        for k in range(more):
            f.create_dataset(f"other_{k}", data=np.arange(3.0))
        return f.create_dataset(variable, data=data, dtype=dtype, **how) is not None


def nc(name, data, **how):
    """As xarray writes it: dimensions, which netCDF keeps as datasets of their own with scales attached, and a fill value."""
    with netCDF4.Dataset(name, "w") as f:
        axes = ("sample", "time", "channel", "x", "y")
        for axis, n in zip(axes, data.shape):
            f.createDimension(axis, n)
        f.createVariable("data", "f4", axes, fill_value=np.nan, **how)[:] = data


os.chdir(os.path.dirname(os.path.abspath(__file__)))
three, one = values(3), values(1)

# Read.
nc("netcdf4.nc", three, chunksizes=CHUNKS)
nc("netcdf4-contiguous.nc", three, contiguous=True)
nc("netcdf4-deflate.nc", three, chunksizes=CHUNKS, zlib=True, shuffle=True)
nc("second.nc", values(2, first=3), chunksizes=CHUNKS)
h5("contiguous.h5", three)
h5("chunked.h5", three, chunks=CHUNKS)
h5("small-chunks.h5", three, chunks=(1, 1, 1, 4, 4))  # 180 of them: two levels of index
h5("odd-chunks.h5", three, chunks=(2, 2, 3, 5, 3))
h5("odd-chunks-deflate.h5", three, chunks=(2, 2, 3, 5, 3), compression="gzip", shuffle=True)
h5("deflate.h5", three, chunks=CHUNKS, compression="gzip")
with h5py.File("some-filters.h5", "w", libver="earliest") as f:  # as where deflate would have made a chunk longer: each says what was left out
    d = f.create_dataset("data", data=three, chunks=CHUNKS, compression="gzip", shuffle=True)
    plain = lambda t: three[1, t].tobytes()
    d.id.write_direct_chunk((1, 0, 0, 0, 0), plain(0), filter_mask=3)
    d.id.write_direct_chunk((1, 1, 0, 0, 0), np.frombuffer(plain(1), np.uint8).reshape(-1, 4).T.tobytes(), filter_mask=2)
    d.id.write_direct_chunk((1, 2, 0, 0, 0), zlib.compress(plain(2)), filter_mask=1)
h5("latest-contiguous.h5", three, libver="latest")
with h5py.File("scales.h5", "w", libver="earliest") as f:  # the same with names in old style
    d = f.create_dataset("data", data=three, chunks=CHUNKS)
    for axis, label in enumerate(("sample", "time", "channel", "x", "y")):
        f.create_dataset(label, data=np.arange(d.shape[axis]))
        f[label].make_scale(label)
        d.dims[axis].attach_scale(f[label])
    for k in range(30):  # more names than a node of them holds
        f.create_dataset(f"other_{k}", data=np.arange(2.0))
conserved = np.stack([three[:, :, 0], three[:, :, 0] * three[:, :, 1], three[:, :, 0] * three[:, :, 2], three[:, :, 4]], axis=-1)
np.save("conserved.npy", conserved)

# Refused.
h5("latest-chunked.h5", one, libver="latest", chunks=(1, 1, 5, 4, 4))
h5("many-names.h5", one, libver="latest", more=9)
h5("big-endian.h5", one, dtype=">f4")
h5("float64.h5", one, dtype="<f8")
h5("integers.h5", one, dtype="<i4")
h5("lzf.h5", one, chunks=CHUNKS, compression="lzf")
h5("fletcher32.h5", one, chunks=CHUNKS, fletcher32=True)
h5("no-variable.h5", one, variable="data_2")
h5("four-axes.h5", one[0])
h5("four-channels.h5", one[:, :, :4])
h5("other-grid.h5", values(1, height=4))
h5("other-time.h5", one[:, :2])
h5("no-trajectories.h5", one[:0], maxshape=(None,) + one.shape[1:], chunks=CHUNKS)
with h5py.File("never-written.h5", "w", libver="earliest") as f:
    f.create_dataset("data", three.shape, "<f4")
with h5py.File("half-written.h5", "w", libver="earliest") as f:
    f.create_dataset("data", three.shape, "<f4", chunks=CHUNKS)[0] = one[0]
with h5py.File("group.h5", "w", libver="earliest") as f:
    f.create_group("data")
with h5py.File("link.h5", "w", libver="earliest") as f:
    f["data"] = h5py.SoftLink("/elsewhere")
with h5py.File("link-latest.h5", "w", libver="latest") as f:
    f["data"] = h5py.ExternalLink("other.h5", "/data")
with h5py.File("named-type.h5", "w", libver="earliest") as f:
    f["type"] = np.dtype("<f4")
    f.create_dataset("data", data=one, dtype=f["type"])
with h5py.File("external.h5", "w", libver="earliest") as f:
    f.create_dataset("data", one.shape, "<f4", external=[("elsewhere.bin", 0, one.nbytes)])
with h5py.File("user-block.h5", "w", libver="earliest", userblock_size=512) as f:
    f.create_dataset("data", data=one)
with netCDF4.Dataset("netcdf3.nc", "w", format="NETCDF3_CLASSIC") as f:
    f.createDimension("n", 4)
    f.createVariable("data", "f4", ("n",))[:] = 0
