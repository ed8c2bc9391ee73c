"""Readers of zip, pickle, Protocol Buffers and HDF5 files, with limits on size, that run no code from the file."""
