"""The four services of the machine, the ports between them and the runtime that they share."""
