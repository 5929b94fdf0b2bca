"""A small network of namespaces, and the programs in it. Used by scripts/demo and tests/e2e."""
