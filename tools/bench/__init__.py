"""How fast the normalization kernels are, beside everything else that runs such layers on a CPU."""
