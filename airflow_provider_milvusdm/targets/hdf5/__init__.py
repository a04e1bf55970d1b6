"""HDF5 files as a target."""
