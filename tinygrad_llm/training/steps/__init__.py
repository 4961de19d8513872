"""Other ways to compute a step: as a CUDA graph, with a scaled loss, on several processes."""
