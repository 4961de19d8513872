"""What stands on the disk, and how a run begins: folder, checkpoints, text, all put together."""
