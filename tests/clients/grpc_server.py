"""A gRPC server on the `grpcio` package whose calls last until somebody ends them.

Says its port on a line of standard output, and then `over` each time a call has ended; ends when
standard input does. /test.Patient/Hold answers a text with the same text, and then nothing more.
"""

import sys
import threading
from concurrent import futures

import grpc


def hold(request, context):
    over = threading.Event()

    def end():
        # Here, because a call that ends while its reply is being sent is not come back to.
        print("over", flush=True)
        over.set()

    context.add_callback(end)
    yield request
    over.wait()


class Patient(grpc.GenericRpcHandler):
    def service(self, details):
        if details.method == "/test.Patient/Hold":
            return grpc.unary_stream_rpc_method_handler(hold)
        return None


server = grpc.server(futures.ThreadPoolExecutor(max_workers=8), handlers=[Patient()])
print(server.add_insecure_port("127.0.0.1:0"), flush=True)
server.start()
sys.stdin.read()
server.stop(None)
