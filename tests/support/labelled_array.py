"""Arrays with named axes, as a library has them that tests need not install."""

from __future__ import annotations

import numpy as np


class Labelled:
    """An array with named axes and coordinates, as xarray's DataArray, which a test need not install."""

    def __init__(self, values, dims, coords):
        self.values, self.dims, self.coords, self.shape = values, dims, coords, values.shape

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self.values, dtype)

    def __len__(self):
        return len(self.values)

    def __getitem__(self, k):
        return Labelled(self.values[k], self.dims[1:], self.coords)

    def sel(self, chosen):
        ((dim, label),) = chosen.items()
        axis = self.dims.index(dim)
        dims = self.dims[:axis] + self.dims[axis + 1 :]
        return Labelled(self.values.take(list(self.coords[dim]).index(label), axis), dims, self.coords)
