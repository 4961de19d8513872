"""The settings of a run: each is a flag, a line of a file, and part of presets."""
