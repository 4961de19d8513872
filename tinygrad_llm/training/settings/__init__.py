"""What a run is told: every setting, as a flag, as a line of a file, as a preset."""
