"""docs/fidelity.md's table of branches: what each branch of vm_glue.c decides, where it lives, and who gets there."""
