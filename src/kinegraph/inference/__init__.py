"""From a checkpoint and clips to answers."""
