"""Boxes as containers of a machine's engine (Podman)."""
