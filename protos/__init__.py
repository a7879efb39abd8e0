"""The public contract (vmglue.<name>.v1); the code beside the .proto files is generated at install."""
