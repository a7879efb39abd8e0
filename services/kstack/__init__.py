"""The kstack service: kernel stacks, their cache, and the part of a process that swaps with it."""
