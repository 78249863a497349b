"""Live: from a video, a camera or poses that others estimated to who did what, and when."""
