"""A WebSocket echo server on the `websockets` package, with permessage-deflate and subprotocols.

Arguments: CERTIFICATE KEY for TLS, or none. Says its port on a line of standard output; ends when
standard input does. The path /seen answers each message with what the handshake agreed on.
"""

import asyncio
import json
import ssl
import sys

import websockets


async def serve(connection, path):
    async for message in connection:
        if path == "/seen":
            seen = {
                "subprotocol": connection.subprotocol,
                "extensions": [type(each).__name__ for each in connection.extensions],
                "fields": dict(connection.request_headers.raw_items()),
            }
            await connection.send(json.dumps(seen))
        else:
            await connection.send(message)


async def main(pair):
    context = None
    if pair:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*pair)
    server = await websockets.serve(
        serve, "127.0.0.1", 0, ssl=context, subprotocols=["chat"], max_size=None
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    server.close()


asyncio.run(main(sys.argv[1:]))
