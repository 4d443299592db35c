"""The programs: each reads the environment and starts one thing. `bootstrap` puts the adapters together."""
