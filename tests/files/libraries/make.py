"""Write the files beside this one: GRUs of libraries that the tests do not install, each with an input and its output.

Needs jax, flax, equinox, dm-haiku, mlx[cpu] and safetensors. x is (T, B, I), y is (T, B, H), from h0 (B, H).
"""

import equinox
import flax.linen
import flax.nnx
import haiku
import jax
import mlx.core
import mlx.nn
import numpy as np
from flax.traverse_util import flatten_dict
from safetensors.numpy import save_file

T, B, INPUTS, H = 6, 2, 3, 4
random = np.random.default_rng(11)
x = random.normal(size=(T, B, INPUTS)).astype(np.float32)
h0 = random.normal(size=(B, H)).astype(np.float32) / 2
key = jax.random.key(0)


def shaken(tree):
    """Return the same weights with random numbers added, since a bias of zeros would prove nothing."""
    return jax.tree.map(lambda a: np.asarray(a) + random.normal(size=a.shape).astype(np.float32) / 2, tree)


def steps(step):
    h, out = h0, []
    for x_t in x:
        h = np.asarray(step(x_t, h))
        out.append(h)
    return np.stack(out)


def write(name, weights, y):
    arrays = {key: np.ascontiguousarray(value, np.float32) for key, value in weights.items()}
    save_file({**arrays, "x": x, "h0": h0, "y": np.ascontiguousarray(y, np.float32)}, f"{name}.safetensors")


linen = flax.linen.GRUCell(H)
params = shaken(linen.init(key, h0, x[0]))
write("flax_linen", flatten_dict(params, sep="/"), steps(lambda x_t, h: linen.apply(params, h, x_t)[0]))

cell = flax.nnx.GRUCell(INPUTS, H, rngs=flax.nnx.Rngs(0))
definition, state = flax.nnx.split(cell, flax.nnx.Param)[:2]
state = shaken(state)
cell = flax.nnx.merge(definition, state, *flax.nnx.split(cell, flax.nnx.Param, ...)[2:])
write("flax_nnx", flatten_dict(flax.nnx.to_pure_dict(state), sep="."), steps(lambda x_t, h: cell(h, x_t)[0]))

eqx = shaken(equinox.nn.GRUCell(INPUTS, H, key=key))
names = ("weight_ih", "weight_hh", "bias", "bias_n")
write("equinox", {f"cell.{n}": getattr(eqx, n) for n in names}, steps(lambda x_t, h: jax.vmap(eqx)(x_t, h)))

gru = haiku.without_apply_rng(haiku.transform(lambda x_t, h: haiku.GRU(H)(x_t, h)[0]))
params = shaken(gru.init(key, x[0], h0))
write(
    "haiku",
    {f"{module}/{n}": a for module, part in params.items() for n, a in part.items()},
    steps(lambda x_t, h: gru.apply(params, x_t, h)),
)

mlx_gru = mlx.nn.GRU(INPUTS, H)
y = np.array(mlx_gru(mlx.core.array(x.transpose(1, 0, 2)), mlx.core.array(h0))).transpose(1, 0, 2)
write("mlx", {f"encoder.{n}": np.array(a) for n, a in mlx_gru.parameters().items()}, y)
