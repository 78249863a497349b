"""An HTTP and websocket server that predicts actions for many clients, and its page."""
