"""Readers of zip, pickle, Protocol Buffers and HDF5 files, with bounds, and without running anything."""
