"""What this project takes from cupyx, on the stand-in's arrays."""
