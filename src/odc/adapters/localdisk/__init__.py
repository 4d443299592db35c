"""Disks and blobs on the machine's own file systems."""
