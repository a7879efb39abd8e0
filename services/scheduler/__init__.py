"""The scheduler: processes, threads, the clock and the kernel's own threads."""
