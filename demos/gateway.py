"""`helios-world gateway`: the page on which browsers play the worlds of a running `helios-world serve`."""

from __future__ import annotations

import argparse
import secrets
import socket
import sys

from helios_world.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--connect", required=True, metavar="ADDRESS", help="server, such as tcp://127.0.0.1:5557")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; others than loopback: --insecure")
    parser.add_argument("--port", type=int, default=8080, help="port to listen on; 0 picks a free one (8080)")
    parser.add_argument("--token", help="what a browser must know to play (a new one each time)")
    parser.add_argument(
        "--origin", action="append", default=[], metavar="URL", help="a page elsewhere that may connect too; repeatable"
    )
    parser.add_argument("--max-browsers", type=int, default=8, help="that play at the same time (8)")
    parser.add_argument("--insecure", action="store_true", help="allow any --host: token and picture travel in clear")


def run(args: argparse.Namespace) -> int:
    """Serves until interrupted; returns 130 then."""
    import asyncio

    from helios_world.gateway.app import Gateway, check_host, serve_page

    if not 0 <= args.port < 1 << 16:
        raise UserError(f"port is {args.port}: must be from 0 to 65535")
    host = check_host(args.host, insecure=args.insecure)
    token = secrets.token_urlsafe(16) if args.token is None else args.token
    gateway = Gateway(args.connect, token, origins=args.origin, max_browsers=args.max_browsers, any_host=args.insecure)
    if args.insecure:
        print(f"insecure: whoever sees the traffic to {host} can read the token and play", file=sys.stderr)

    def ready(port: int) -> None:
        name = socket.gethostname() if host in ("0.0.0.0", "::") else f"[{host}]" if ":" in host else host
        secret = f"#token={token}" if args.token is None else "   with your token"
        print(f"{args.connect} in a browser: http://{name}:{port}/{secret}", flush=True)

    try:
        # Not the proactor loop of Windows, which cannot wait for ZeroMQ sockets.
        with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
            runner.run(serve_page(gateway, host, args.port, ready))
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
    return 130
