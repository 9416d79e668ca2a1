"""Worlds in a browser: a page, and a WebSocket for each player that is relayed to a server of worlds."""
