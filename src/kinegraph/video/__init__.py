"""From videos, cameras and pose files to action segments with start and end times."""
