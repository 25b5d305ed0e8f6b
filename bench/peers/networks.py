"""The networks of package models in JAX: the same operations, and parameters of the same names and shapes."""
import math

import jax
import jax.numpy as jnp
from jax import lax

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

def unet(widths, groups, blocks=1, heads=0):
    """Residual blocks at each resolution: so many on the way down, one more on the way up. Without heads there is no attention."""
    def residual(get, name, x, width):
        y = conv(get, f"{name}/conv_0", jax.nn.silu(norm(get, f"{name}/norm_0", x, groups)), width)
        y = conv(get, f"{name}/conv_1", jax.nn.silu(norm(get, f"{name}/norm_1", y, groups)), width)
        return y + (x if x.shape[-1] == width else conv(get, f"{name}/shortcut", x, width, kernel=1))

    def network(get, x):
        channels = x.shape[-1]
        x = conv(get, "/unet/input", x, widths[0])
        skipped, last = [x], len(widths) - 1
        for level, width in enumerate(widths):
            for block in range(blocks):
                x = residual(get, f"/unet/down_{level}/block_{block}", x, width)
                skipped.append(x)
            if level < last:
                x = conv(get, f"/unet/down_{level}/coarsen", x, width, stride=2)
                skipped.append(x)
        x = residual(get, "/unet/middle/block_0", x, widths[-1])
        if heads:
            tokens = norm(get, "/unet/middle/attention/norm", x, groups).reshape(x.shape[0], -1, x.shape[-1])
            x = x + attention(get, "/unet/middle/attention", tokens, heads).reshape(x.shape)
        x = residual(get, "/unet/middle/block_1", x, widths[-1])
        for level in range(last, -1, -1):
            for block in range(blocks + 1):
                x = residual(get, f"/unet/up_{level}/block_{block}", jnp.concatenate([x, skipped.pop()], axis=-1), widths[level])
            if level > 0:
                b, h, w, c = x.shape
                x = jnp.broadcast_to(x.reshape(b, h, 1, w, 1, c), (b, h, 2, w, 2, c)).reshape(b, 2 * h, 2 * w, c)
                x = conv(get, f"/unet/up_{level}/refine", x, widths[level])
        return conv(get, "/unet/output", jax.nn.silu(norm(get, "/unet/output/norm", x, groups)), channels, scale=0.1)
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

def advance(network, p, x, mean, scale):
    """The next state, of states [batch, y, x, channel] with this mean and scale of each channel, as models.Normalization."""
    return x + scale * network(lambda name, *_, **__: p[name], (x - mean) / scale)

def smse(target, prediction, units=None):
    """audit.Loss, of channels none of which is zero throughout. Their units are the largest magnitudes in the batch of targets, if no others are given."""
    units = jnp.abs(target).max((0, 1, 2)) if units is None else units
    rms = jnp.sqrt(((target / units) ** 2).mean((1, 2), keepdims=True))
    return ((((prediction - target) / units) / (rms + 1e-6)) ** 2).mean()
