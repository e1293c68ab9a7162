"""A load generator for servers that speak OpenAI's API: streams in one thread, on plain sockets, at a few microseconds
an event, as it shares the machine with the server that it measures."""

import heapq
import json
import selectors
import socket
import time
from dataclasses import dataclass, field

RECEIVE_BYTES = 1 << 18
REQUEST_TIMEOUT_S = 300


@dataclass
class Request:
    prompt: str
    max_tokens: int
    name: str = ""  # which of a workload's kinds it is


@dataclass
class Answer:
    """What came of a request. Times are of the monotonic clock, and of the moment when the bytes were there."""
    request: Request
    begun_s: float
    ended_s: float = 0.0
    token_times_s: list = field(default_factory=list)  # of the events that carry text
    text: str = ""
    new_tokens: int = 0
    course: dict = field(default_factory=dict)  # what the server says of its own time, where it does
    fault: str = ""

    @property
    def first_token_s(self):
        return self.token_times_s[0] - self.begun_s

    @property
    def gaps_s(self):
        return [after - before for before, after in zip(self.token_times_s, self.token_times_s[1:])]

    @property
    def per_token_s(self):
        """After the first; 0 where there was no other."""
        others = self.new_tokens - 1
        return (self.token_times_s[-1] - self.token_times_s[0]) / others if others > 0 else 0.0

    @property
    def total_s(self):
        return self.ended_s - self.begun_s


class Stream:
    """One request on a connection of its own, read as far as it has come."""

    def __init__(self, port, model, request):
        self.answer = Answer(request, time.monotonic())
        body = json.dumps({"model": model, "prompt": request.prompt, "max_tokens": request.max_tokens, "temperature": 0,
                           "stream": True, "stream_options": {"include_usage": True},
                           # No text may be shorter than another: the token that ends one never comes.
                           "logit_bias": {"2": -100}}).encode()
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
                            b"Content-Length: %d\r\n\r\n" % len(body) + body)
        self.socket.setblocking(False)
        self.raw = b""
        self.content = b""
        self.header_read = False
        self.status = 0
        self.events = []  # what was received, and when; looked into at the end

    def receive(self):
        """Whether the answer has ended."""
        try:
            block = self.socket.recv(RECEIVE_BYTES)
        except BlockingIOError:
            return False
        except OSError as error:
            return self.end(str(error))
        now_s = time.monotonic()
        if not block:
            return self.end("the connection was closed")
        self.raw += block
        if not self.header_read:
            header, mark, rest = self.raw.partition(b"\r\n\r\n")
            if not mark:
                return False
            self.header_read = True
            self.status = int(header.split(b" ", 2)[1])
            self.raw = rest
            if self.status != 200:
                return self.end(f"{self.status}: {rest[:200].decode('utf-8', 'replace')}")
        last = self.decode_chunks()
        *events, self.content = self.content.split(b"\n\n")
        self.events += [(now_s, event) for event in events]
        return self.end("") if last else False

    def decode_chunks(self):
        """Takes whole chunks (RFC 9112, 7.1) out of what came; whether the last was among them."""
        at = 0
        while True:
            line_end = self.raw.find(b"\r\n", at)
            if line_end < 0:
                break
            size = int(self.raw[at:line_end].split(b";")[0], 16)
            if size == 0:
                return True
            begin = line_end + 2
            if len(self.raw) < begin + size + 2:
                break
            self.content += self.raw[begin:begin + size]
            at = begin + size + 2
        self.raw = self.raw[at:]
        return False

    def end(self, fault):
        self.socket.close()
        answer = self.answer
        answer.ended_s = time.monotonic()
        answer.fault = fault
        for at_s, event in self.events:
            if not event.startswith(b"data: {"):
                continue
            data = json.loads(event[len(b"data: "):])
            if "error" in data:
                answer.fault = str(data["error"])
            answer.new_tokens = (data.get("usage") or {}).get("completion_tokens", answer.new_tokens)
            for choice in data.get("choices", []):
                answer.course = choice.get("baton", answer.course)
                if choice.get("text"):
                    answer.text += choice["text"]
                    answer.token_times_s.append(at_s)
        if not answer.token_times_s and not answer.fault:
            answer.fault = "the answer is empty"
        return True


class Load:
    """Requests that are due at some time, and those that follow on answers."""

    def __init__(self, port, model):
        self.port = port
        self.model = model
        self.due = []  # heap of (time, number, request, what follows)
        self.number = 0

    def at(self, due_s, request, follow=None):
        """`follow(answer)` is called when it has ended; what it gives, a request or nothing, is sent at once."""
        self.number += 1
        heapq.heappush(self.due, (due_s, self.number, request, follow))

    def run(self):
        """All answers, the seconds from first to last, and the share of a core that this program took."""
        answers, running = [], {}
        begun_s, begun_cpu_s = time.monotonic(), time.process_time()
        with selectors.DefaultSelector() as selector:
            while self.due or running:
                while self.due and self.due[0][0] <= time.monotonic():
                    _, _, request, follow = heapq.heappop(self.due)
                    stream = Stream(self.port, self.model, request)
                    running[stream] = follow
                    selector.register(stream.socket, selectors.EVENT_READ, stream)
                wait_s = max(0, self.due[0][0] - time.monotonic()) if self.due else 1
                for key, _ in selector.select(min(wait_s, 1)):
                    stream = key.data
                    if not stream.receive():
                        continue
                    selector.unregister(key.fileobj)
                    self.finish(stream, running.pop(stream), answers)
                limit_s = time.monotonic() - REQUEST_TIMEOUT_S
                for stream in [stream for stream in running if stream.answer.begun_s < limit_s]:
                    selector.unregister(stream.socket)
                    stream.end(f"no end within {REQUEST_TIMEOUT_S} s")
                    self.finish(stream, running.pop(stream), answers)
        wall_s = time.monotonic() - begun_s
        return answers, wall_s, (time.process_time() - begun_cpu_s) / wall_s

    def finish(self, stream, follow, answers):
        answers.append(stream.answer)
        following = follow(stream.answer) if follow else None
        if following is not None:
            self.at(time.monotonic(), following, follow)
