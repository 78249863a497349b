"""Action segments with start and end times, from videos, cameras and pose files."""
