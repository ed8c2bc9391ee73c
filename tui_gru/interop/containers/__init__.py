"""Containers of bytes: zip, pickle, Protocol Buffers, HDF5; each read within bounds, none of it run."""
