"""The networks of package models in PyTorch, of its own layers: the same operations, and parameters that are those of the Go models in PyTorch's order of axes."""
import math

import numpy
import torch
from torch import nn

class Conv(nn.Module):
    """A convolution on a periodic grid, of states [batch, channel, y, x]."""

    def __init__(self, channels, width, kernel=3, stride=1):
        super().__init__()
        self.layer, self.kernel = nn.Conv2d(channels, width, kernel, stride), kernel

    def forward(self, x):
        if self.kernel == 3:
            x = torch.cat([x[:, :, -1:], x, x[:, :, :1]], 2)
            x = torch.cat([x[..., -1:], x, x[..., :1]], 3)
        return self.layer(x)

class Residual(nn.Module):
    def __init__(self, channels, width, groups):
        super().__init__()
        self.norm_0, self.norm_1 = nn.GroupNorm(groups, channels), nn.GroupNorm(groups, width)
        self.conv_0, self.conv_1 = Conv(channels, width), Conv(width, width)
        self.shortcut = Conv(channels, width, kernel=1) if channels != width else nn.Identity()

    def forward(self, x):
        y = self.conv_0(nn.functional.silu(self.norm_0(x)))
        return self.shortcut(x) + self.conv_1(nn.functional.silu(self.norm_1(y)))

class UNet(nn.Module):
    def __init__(self, channels, widths, groups, blocks):
        super().__init__()
        last, skipped = len(widths) - 1, [widths[0]]
        made = {"input": Conv(channels, widths[0])}
        width = widths[0]
        for level, wide in enumerate(widths):
            for block in range(blocks):
                made[f"down_{level}/block_{block}"] = Residual(width, wide, groups)
                width = wide
                skipped.append(width)
            if level < last:
                made[f"down_{level}/coarsen"] = Conv(width, width, stride=2)
                skipped.append(width)
        made["middle/block_0"], made["middle/block_1"] = Residual(width, width, groups), Residual(width, width, groups)
        for level in range(last, -1, -1):
            for block in range(blocks + 1):
                made[f"up_{level}/block_{block}"] = Residual(width + skipped.pop(), widths[level], groups)
                width = widths[level]
            if level > 0:
                made[f"up_{level}/refine"] = Conv(width, width)
        made["output/norm"], made["output"] = nn.GroupNorm(groups, width), Conv(width, channels)
        self.made, self.levels, self.blocks = nn.ModuleDict(made), len(widths), blocks

    def forward(self, x):
        made = self.made
        x = made["input"](x.permute(0, 3, 1, 2))
        skipped = [x]
        for level in range(self.levels):
            for block in range(self.blocks):
                x = made[f"down_{level}/block_{block}"](x)
                skipped.append(x)
            if level < self.levels - 1:
                x = made[f"down_{level}/coarsen"](x)
                skipped.append(x)
        x = made["middle/block_1"](made["middle/block_0"](x))
        for level in range(self.levels - 1, -1, -1):
            for block in range(self.blocks + 1):
                x = made[f"up_{level}/block_{block}"](torch.cat([x, skipped.pop()], 1))
            if level > 0:
                x = made[f"up_{level}/refine"](x.repeat_interleave(2, 2).repeat_interleave(2, 3))
        return made["output"](nn.functional.silu(made["output/norm"](x))).permute(0, 2, 3, 1)

class Attention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.query_key_value, self.output, self.heads = nn.Linear(width, 3 * width), nn.Linear(width, width), heads

    def forward(self, x):
        batch, tokens, width = x.shape
        each = width // self.heads
        query, key, value = self.query_key_value(x).reshape(batch, tokens, 3, self.heads, each).permute(2, 0, 3, 1, 4)
        weights = torch.softmax((query / math.sqrt(each)) @ key.transpose(-1, -2), -1)
        return self.output((weights @ value).transpose(1, 2).reshape(x.shape))

class Block(nn.Module):
    def __init__(self, width, heads, expansion):
        super().__init__()
        self.norm_0, self.norm_1, self.attention = nn.LayerNorm(width), nn.LayerNorm(width), Attention(width, heads)
        self.expand, self.contract = nn.Linear(width, expansion * width), nn.Linear(expansion * width, width)

    def forward(self, x):
        x = x + self.attention(self.norm_0(x))
        return x + self.contract(nn.functional.gelu(self.expand(self.norm_1(x))))

class Position(nn.Module):
    def __init__(self, tokens, width):
        super().__init__()
        self.embedding = nn.Parameter(torch.zeros(tokens, width))

    def forward(self, x):
        return x + self.embedding

class ViT(nn.Module):
    def __init__(self, channels, patch, width, layers, heads, expansion, tokens):
        super().__init__()
        made = {"input": nn.Linear(patch * patch * channels, width), "position": Position(tokens, width)}
        made |= {f"block_{layer}": Block(width, heads, expansion) for layer in range(layers)}
        made |= {"output/norm": nn.LayerNorm(width), "output": nn.Linear(width, patch * patch * channels)}
        self.made, self.patch = nn.ModuleDict(made), patch

    def forward(self, x):
        b, h, w, c = x.shape
        p = self.patch
        x = x.reshape(b, h // p, p, w // p, p, c).permute(0, 1, 3, 2, 4, 5).reshape(b, -1, p * p * c)
        for part in self.made.values():
            x = part(x)
        return x.reshape(b, h // p, w // p, p, p, c).permute(0, 1, 3, 2, 4, 5).reshape(b, h, w, c)

class Advance(nn.Module):
    """The next state, as models.Normalization and the increment make it of the network."""

    def __init__(self, network, mean, scale):
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float64))
        self.register_buffer("scale", torch.tensor(scale, dtype=torch.float64))

    def forward(self, x):
        return x + self.scale * self.network((x - self.mean) / self.scale)

# What the last part of a Go model's name is here.
PARTS = {"weights": "weight", "biases": "bias", "gain": "weight"}

def turned(value):
    """An array of parameters in PyTorch's order of axes: [y, x, in, out] to [out, in, y, x], [in, out] to [out, in]."""
    return value.transpose(3, 2, 0, 1) if value.ndim == 4 else value.T if value.ndim == 2 else value

class Model:
    """The network of a problem with its weights."""

    def __init__(self, problem, dtype):
        channels, grid = problem.x.shape[-1], problem.x.shape[1]
        if problem.kind == "unet":
            network = UNet(channels, **problem.settings)
        else:
            network = ViT(channels, tokens=(grid // problem.settings["patch"]) ** 2, **problem.settings)
        self.module, self.dtype, self.problem = Advance(network, problem.mean, problem.scale).to(dtype), dtype, problem
        own = dict(self.module.named_parameters())
        self.names = {name: self.name(name, own) for name in problem.parameters}
        assert sorted(self.names.values()) == sorted(own), "the networks have other parameters"
        with torch.no_grad():
            for name, value in problem.parameters.items():
                own[self.names[name]].copy_(torch.from_numpy(self.turn(name, value).copy()))
        self.order = list(own)
        self.x, self.y = (torch.tensor(values, dtype=dtype) for values in (problem.x, problem.y))

    @staticmethod
    def name(path, own):
        *scope, last = path.split("/")[2:]
        for cut in range(len(scope), -1, -1):  # a module of the network, and parts of it
            inner = ".".join([*scope[cut:], PARTS.get(last, last)])
            for middle in ("", "layer."):
                *head, tail = inner.split(".")
                found = ".".join(["network.made", "/".join(scope[:cut]), *head, middle + tail])
                if found in own:
                    return found
        raise KeyError(path)

    def turn(self, name, value):
        return value if name.endswith("/embedding") else turned(value)

    def flat(self, vectors):
        """Rows of all parameters in the order of the module's."""
        rows = []
        for vector in vectors:
            back = {self.names[name]: self.turn(name, value).ravel() for name, value in self.problem.split(vector).items()}
            rows.append(numpy.concatenate([back[name] for name in self.order]))
        return torch.tensor(numpy.stack(rows), dtype=self.dtype)

    def loss(self, prediction):
        units = torch.tensor(self.problem.units, dtype=self.dtype)
        rms = ((self.y / units) ** 2).mean((1, 2), keepdim=True).sqrt()
        return ((((prediction - self.y) / units) / (rms + 1e-6)) ** 2).mean()

