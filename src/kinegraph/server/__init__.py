"""Answers over HTTP and websockets: one recogniser for many clients at once."""
