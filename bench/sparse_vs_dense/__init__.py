"""The paper's observations on sparse codes at small scale, and its codes against baselines."""
