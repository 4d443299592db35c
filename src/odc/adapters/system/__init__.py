"""What the machine itself gives: clocks, GPUs, OpenSSH's programs."""
