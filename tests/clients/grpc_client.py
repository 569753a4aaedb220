"""A gRPC client on the `grpcio` package: plays calls one after the other, tells what happened.

Standard input: a line {"target": "HOST:PORT", "calls", and any of "ca", "cert", "key"}; each line
after it lets a step `wait` go on. A call is {"method", "steps", and any of "metadata", "timeout",
"kind"}: a method of gwproxy.echo.v1.Echo, whose types the server itself is asked for (reflection),
or a path and a kind as `unary_stream`, whose messages are text. Metadata is [[KEY, VALUE]], in hex
where the key ends in `-bin`. Standard error: what a step `say` says. Standard output: for each call
its replies, its status, and the metadata before and after them.
"""

import json
import queue
import sys

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory

SERVICE = "gwproxy.echo.v1.Echo"
LARGEST = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


def fields(message):
    """The numbers and values of the fields of an encoded message; none of them is of fixed size."""
    at = 0

    def number():
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(message):
        key = number()
        value = number()
        if key & 7 == 2:
            value, at = message[at : at + value], at + value
        yield key >> 3, value


class Echo:
    """The methods of the echo service, as the server describes them."""

    def __init__(self, channel):
        path = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
        # ServerReflectionRequest.file_containing_symbol is field 4, and so is the answer's
        # file_descriptor_response, which looks as a FileDescriptorSet does.
        ask = b"\x22" + bytes([len(SERVICE)]) + SERVICE.encode()
        [answer] = channel.stream_stream(path)(iter([ask]), timeout=30)
        files = descriptor_pb2.FileDescriptorSet.FromString(dict(fields(answer))[4])
        pool = descriptor_pool.DescriptorPool()
        for file in files.file:
            pool.Add(file)
        [described] = (s for file in files.file for s in file.service if s.name == "Echo")
        self.kinds = {method.name: method for method in described.method}
        self.service = pool.FindServiceByName(SERVICE)
        self.factory = message_factory.MessageFactory(pool)

    def method(self, name):
        method = self.service.methods_by_name[name]
        request = self.factory.GetPrototype(method.input_type)
        reply = self.factory.GetPrototype(method.output_type)
        kind = self.kinds[name]
        streams = (kind.client_streaming, kind.server_streaming)
        return (
            f"/{SERVICE}/{name}",
            "_".join("stream" if streaming else "unary" for streaming in streams),
            lambda ask: json_format.ParseDict(ask, request()).SerializeToString(),
            lambda raw: json_format.MessageToDict(
                reply.FromString(raw), preserving_proto_field_name=True
            ),
        )


def sent(metadata):
    return [(k, bytes.fromhex(v) if k.endswith("-bin") else v) for k, v in metadata]


def told(metadata):
    return [[k, v.hex() if isinstance(v, bytes) else v] for k, v in metadata or ()]


def play(channel, echo, ask):
    if ask["method"].startswith("/"):
        path, kind, encode, decode = ask["method"], ask["kind"], str.encode, bytes.decode
    else:
        path, kind, encode, decode = echo().method(ask["method"])
    stub = getattr(channel, kind)(path, encode, decode)
    steps = list(ask["steps"])
    outgoing = queue.SimpleQueue()
    if kind.startswith("stream"):
        request = iter(outgoing.get, None)
    else:
        name, request = steps.pop(0)
        assert name == "send", name
    begin = stub if kind.endswith("stream") else stub.future
    call = begin(request, timeout=ask.get("timeout"), metadata=sent(ask.get("metadata", [])))
    replies = []
    try:
        for name, *rest in steps:
            if name == "send":
                outgoing.put(rest[0])
            elif name == "end":
                outgoing.put(None)
            elif name == "recv":
                replies.append(next(call) if kind.endswith("stream") else call.result())
            elif name == "recv_all":
                replies.extend(call)
            elif name == "say":
                print(rest[0], file=sys.stderr, flush=True)
            elif name == "wait":
                sys.stdin.readline()
            elif name == "cancel":
                call.cancel()
            else:
                raise ValueError(name)
    except (grpc.RpcError, grpc.FutureCancelledError, StopIteration):
        pass
    outgoing.put(None)
    return {
        "replies": replies,
        "code": call.code().name,
        "details": call.details(),
        "initial": told(call.initial_metadata()),
        "trailing": told(call.trailing_metadata()),
    }


def read(path):
    with open(path, "rb") as file:
        return file.read()


def main():
    ask = json.loads(sys.stdin.readline())
    if "ca" in ask:
        pair = [read(ask[name]) if name in ask else None for name in ("key", "cert")]
        credentials = grpc.ssl_channel_credentials(read(ask["ca"]), *pair)
        channel = grpc.secure_channel(ask["target"], credentials, LARGEST)
    else:
        channel = grpc.insecure_channel(ask["target"], LARGEST)
    described = []

    def echo():
        if not described:
            described.append(Echo(channel))
        return described[0]

    print(json.dumps([play(channel, echo, call) for call in ask["calls"]]))


main()
