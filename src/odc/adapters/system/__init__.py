"""Adapters for the machine itself: clocks, GPUs, OpenSSH's programs."""
