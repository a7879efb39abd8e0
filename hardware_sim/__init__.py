"""What the kernel does not own: memory, MMU, disk, processor, clock, architectures."""
