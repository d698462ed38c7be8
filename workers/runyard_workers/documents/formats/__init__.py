"""One module per family of file formats; each reads bytes into a draft and keeps within its limits."""
