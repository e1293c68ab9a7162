"""A peer that is no baton: it speaks as docs/formats says, of versions that this baton does not know. Real sockets, TLS
1.3, both ends authenticated."""

import hashlib
import socket
import ssl
import struct
import subprocess
import threading

from cluster import where_it_was

# What a listener says first to a peer that it lets in: an empty frame.
READY = bytes(4)
WORK, MEMBERSHIP = "baton/1", "baton-cluster/1"
SOFTWARE = b"stranger 7.3"
DEADLINE_S = 20


def openssl(*arguments):
    return subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True, timeout=60).stdout


def make_identity(folder):
    """A new Ed25519 key and the certificate that it signs for itself: the file of both, and the key's fingerprint."""
    folder.mkdir()
    key, certificate, both = (folder / name for name in ("key.pem", "certificate.pem", "identity.pem"))
    openssl("req", "-x509", "-newkey", "ed25519", "-nodes", "-keyout", key, "-out", certificate, "-subj", "/CN=stranger")
    both.write_bytes(key.read_bytes() + certificate.read_bytes())
    return both, hashlib.sha256(openssl("pkey", "-in", key, "-pubout", "-outform", "DER")).hexdigest()


def work_hello(lowest, highest):
    """As docs/formats/kv-stream.md says."""
    return (struct.pack("<BBHI16x", 1, 0, 0, 0) + b"BATN" + struct.pack("<HHH", lowest, highest, len(SOFTWARE)) + SOFTWARE +
            struct.pack("<H", 0))


def membership_hello(lowest, highest):
    """As docs/formats/membership.md says."""
    return struct.pack("<B4sHHB", 1, b"BATC", lowest, highest, len(SOFTWARE)) + SOFTWARE


HELLO = {WORK: work_hello, MEMBERSHIP: membership_hello}
MAGIC = {WORK: (24, b"BATN"), MEMBERSHIP: (1, b"BATC")}


def versions_in(frame, protocol):
    """The lowest and the highest that a Hello names."""
    offset, magic = MAGIC[protocol]
    if frame[:1] != b"\x01" or frame[offset:offset + 4] != magic:
        raise AssertionError(f"no greeting: {frame.hex()}")
    return struct.unpack_from("<HH", frame, offset + 4)


def tls(side, identity, trusted, protocol):
    """Trusts the one certificate in the file `trusted`."""
    context = ssl.SSLContext(side)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    # Whoever has signed it: a member's certificate is an admin's.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.load_cert_chain(identity)
    context.load_verify_locations(trusted)
    context.set_alpn_protocols([protocol])
    return context


def certificate_shown(port, identity, protocol, fingerprint, file):
    """Writes down the certificate of who listens there, if its key is the one that is meant."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols([protocol])
    context.load_cert_chain(identity)
    with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_S) as raw, context.wrap_socket(raw) as stream:
        file.write_text(ssl.DER_cert_to_PEM_cert(stream.getpeercert(binary_form=True)))
    public = file.with_suffix(".public")
    public.write_bytes(openssl("x509", "-in", file, "-noout", "-pubkey"))
    shown = hashlib.sha256(openssl("pkey", "-pubin", "-in", public, "-outform", "DER")).hexdigest()
    if shown != fingerprint:
        raise AssertionError(f"it shows the key {shown}")
    return file


def frame_of(message):
    return struct.pack("<I", len(message)) + message


def frames_in(stream):
    """All frames until the other ends the stream in good order; anything else is an error."""
    data = b""
    while block := stream.recv(65536):
        data += block
    frames = []
    while data:
        size, = struct.unpack_from("<I", data)
        frames.append(data[4:4 + size])
        if len(frames[-1]) != size:
            raise AssertionError("the stream ends in the middle of a frame")
        data = data[4 + size:]
    return frames


def call(port, identity, trusted, protocol, versions):
    """Connects, greets, and gives the frames that come until the other ends the connection."""
    context = tls(ssl.PROTOCOL_TLS_CLIENT, identity, trusted, protocol)
    with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_S) as raw:
        with context.wrap_socket(raw, suppress_ragged_eofs=False) as stream:
            if stream.recv(len(READY)) != READY:
                raise AssertionError("the listener does not say that it is ready")
            stream.sendall(frame_of(HELLO[protocol](*versions)))
            return frames_in(stream)


class ForeignPeer:
    """Listens, and greets whoever connects. It hears until the other ends the connection, which it need not do itself.
    Use as a context; `calls` are the frames of each connection that ended in good order, `failures` of the others."""

    def __init__(self, identity, trusted, protocol, versions, port=0):
        self.context = tls(ssl.PROTOCOL_TLS_SERVER, identity, trusted, protocol)
        self.hello = frame_of(HELLO[protocol](*versions))
        self.calls, self.failures = [], []
        self.listener = where_it_was(lambda: socket.create_server(("127.0.0.1", port)))
        self.port = self.listener.getsockname()[1]
        self.acceptor = threading.Thread(target=self._accept)
        self.servers = []

    def __enter__(self):
        self.acceptor.start()
        return self

    def __exit__(self, *unused):
        # Closing it alone would leave accept() waiting.
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.acceptor.join()
        for server in self.servers:
            server.join()

    def _accept(self):
        while True:
            try:
                raw, _ = self.listener.accept()
            except OSError:
                return
            self.servers.append(threading.Thread(target=self._serve, args=(raw,)))
            self.servers[-1].start()

    def _serve(self, raw):
        try:
            with raw:
                raw.settimeout(DEADLINE_S)
                with self.context.wrap_socket(raw, server_side=True, suppress_ragged_eofs=False) as stream:
                    # At once, so that the other may read both before it has said anything itself.
                    stream.sendall(READY + self.hello)
                    self.calls.append(frames_in(stream))
        except (OSError, AssertionError) as error:
            self.failures.append(error)
