"""How much time and memory a model takes. Each file is a script, but `competitors` and `nets`, which scripts train."""
