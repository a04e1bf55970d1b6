"""Words of a migration as plain values: no I/O."""
