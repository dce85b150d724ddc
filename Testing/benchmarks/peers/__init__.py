"""One module per registration program that the benchmark runs; all share the command line of ``common``."""
