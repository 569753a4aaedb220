"""A gRPC client on `grpcio`: makes calls, tells what happened.

It knows no .proto file: as grpcurl does, it asks the server's reflection service, through
whatever lies in between, for the messages of the service it calls.

Standard input: {"target", "calls", and any of "ca", "authority", "client"}; `client` is
[CERTIFICATE, KEY]. A call: {"method", "requests": [...], and any of "timeout", "metadata":
[[key, value]...], "cancel_after": N replies, "at_once"}. Values of `-bin` keys are hexadecimal.
Standard output: one entry for each call.
"""

import json
import sys
import threading

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory

PATIENCE = 30
SERVICE = "gwproxy.echo.v1.Echo"

FIELD = descriptor_pb2.FieldDescriptorProto


def well_known():
    """What reflection and health themselves are made of: the fields that are needed of them."""
    file = descriptor_pb2.FileDescriptorProto(name="own.proto", package="own", syntax="proto3")

    def message(name, *fields):
        added = file.message_type.add(name=name)
        for number, field, kind, of, label in fields:
            added.field.add(
                name=field, number=number, type=kind, type_name=of, label=label
            )

    one, many = FIELD.LABEL_OPTIONAL, FIELD.LABEL_REPEATED
    message(
        "ReflectionRequest",
        (4, "file_containing_symbol", FIELD.TYPE_STRING, None, one),
        (7, "list_services", FIELD.TYPE_STRING, None, one),
    )
    message("Files", (1, "file_descriptor_proto", FIELD.TYPE_BYTES, None, many))
    message("Service", (1, "name", FIELD.TYPE_STRING, None, one))
    message("Services", (1, "service", FIELD.TYPE_MESSAGE, ".own.Service", many))
    message(
        "ReflectionResponse",
        (4, "file_descriptor_response", FIELD.TYPE_MESSAGE, ".own.Files", one),
        (6, "list_services_response", FIELD.TYPE_MESSAGE, ".own.Services", one),
    )
    message("HealthRequest", (1, "service", FIELD.TYPE_STRING, None, one))
    message("HealthResponse", (1, "status", FIELD.TYPE_INT32, None, one))
    return file


POOL = descriptor_pool.DescriptorPool()
POOL.Add(well_known())


def message(name):
    return message_factory.MessageFactory(POOL).GetPrototype(POOL.FindMessageTypeByName(name))


def reflect(channel, **question):
    call = channel.stream_stream(
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        request_serializer=lambda request: request.SerializeToString(),
        response_deserializer=message("own.ReflectionResponse").FromString,
    )
    return next(call(iter([message("own.ReflectionRequest")(**question)]), timeout=PATIENCE))


def learn(channel):
    """Takes the service's messages from reflection."""
    answer = reflect(channel, file_containing_symbol=SERVICE)
    for raw in answer.file_descriptor_response.file_descriptor_proto:
        POOL.AddSerializedFile(raw)


def as_message(name, fields):
    """The fields as JSON; `payload_size` stands for that many bytes of payload."""
    fields = dict(fields)
    size = fields.pop("payload_size", 0)
    parsed = json_format.ParseDict(fields, message(name)())
    if size:
        parsed.payload = b"x" * size
    return parsed


def reply_of(reply):
    """The reply as JSON, a long payload by its length."""
    size = len(getattr(reply, "payload", b""))
    if size > 1000:
        reply.ClearField("payload")
    fields = json_format.MessageToDict(reply, preserving_proto_field_name=True)
    if size > 1000:
        fields["payload_size"] = size
    return fields


def metadata_of(pairs):
    told = {}
    for key, value in pairs or ():
        told.setdefault(key, []).append(value.hex() if isinstance(value, bytes) else value)
    return told


KINDS = {
    "Unary": ("unary", "unary"),
    "ServerStream": ("unary", "stream"),
    "ClientStream": ("stream", "unary"),
    "Bidi": ("stream", "stream"),
}


class Requests:
    """The requests of a stream. Unless all go `at_once`, each waits for the reply to the one before.
    With an open end the stream lasts until the call is over."""

    def __init__(self, requests, at_once, open_end):
        self.requests, self.at_once, self.open_end = requests, at_once, open_end
        self.turn, self.over = threading.Semaphore(1), threading.Event()

    def __iter__(self):
        for request in self.requests:
            if not self.at_once:
                self.turn.acquire()
            yield request
        if self.open_end:
            self.over.wait(2 * PATIENCE)


def play(channel, ask):
    name = ask["method"]
    if "/" in name:
        path, kinds = name, ("unary", "unary")
        into, out = "own.HealthRequest", "own.HealthResponse"
    else:
        path, kinds = f"/{SERVICE}/{name}", KINDS[name]
        into, out = "gwproxy.echo.v1.EchoRequest", "gwproxy.echo.v1.EchoReply"
    kind = getattr(channel, "_".join(kinds))
    method = kind(
        path,
        request_serializer=lambda request: request.SerializeToString(),
        response_deserializer=message(out).FromString,
    )
    requests = [as_message(into, each) for each in ask["requests"]]
    metadata = [
        (key, bytes.fromhex(value) if key.endswith("-bin") else value)
        for key, value in ask.get("metadata", [])
    ]
    options = {"timeout": ask.get("timeout", PATIENCE), "metadata": metadata}
    cancel_after = ask.get("cancel_after")
    at_once = ask.get("at_once", True) or kinds[1] == "unary"
    stream = Requests(requests, at_once, cancel_after is not None)
    given = stream if kinds[0] == "stream" else requests[0]
    replies = []
    if kinds[1] == "unary":
        call = method.future(given, **options)
        if cancel_after == 0:
            call.cancel()
    else:
        call = method(given, **options)
    try:
        if kinds[1] == "unary":
            replies.append(reply_of(call.result()))
        else:
            for reply in call:
                replies.append(reply_of(reply))
                stream.turn.release()
                if len(replies) == cancel_after:
                    call.cancel()
    except (grpc.RpcError, grpc.FutureCancelledError):
        pass
    stream.over.set()
    return {
        "code": call.code().name,
        "message": call.details(),
        "replies": replies,
        "initial": metadata_of(call.initial_metadata()),
        "trailing": metadata_of(call.trailing_metadata()),
    }


def content(path):
    if path is None:
        return None
    with open(path, "rb") as file:
        return file.read()


def main(ask):
    limit = 16 << 20
    options = [
        ("grpc.max_receive_message_length", limit),
        ("grpc.max_send_message_length", limit),
        ("grpc.enable_http_proxy", 0),
    ]
    if "authority" in ask:
        options.append(("grpc.default_authority", ask["authority"]))
    if "ca" in ask:
        certificate, key = (content(path) for path in ask.get("client", (None, None)))
        credentials = grpc.ssl_channel_credentials(content(ask["ca"]), key, certificate)
        channel = grpc.secure_channel(ask["target"], credentials, options)
    else:
        channel = grpc.insecure_channel(ask["target"], options)
    with channel:
        told = []
        if ask.get("learn", True):
            learn(channel)
        for call in ask["calls"]:
            if call.get("services"):
                answer = reflect(channel, list_services="*")
                told.append(sorted(each.name for each in answer.list_services_response.service))
            else:
                told.append(play(channel, call))
        return told


print(json.dumps(main(json.load(sys.stdin))))
