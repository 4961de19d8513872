"""One op explained: its page, its call, its source, its curve, and the list of all."""
