"""GGUF files taken apart and put together again, for tests that need a model with another key or tensor
(https://github.com/ggml-org/ggml/blob/master/docs/gguf.md)."""

import struct

SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
ALIGNMENT = 32
F32 = 0
TYPE_BYTES = {0: 4, 1: 2}  # of an element


class GgufFile:
    """`keys` by name: type and bytes of the value. `tensors` by name: dimensions, type and data."""

    def __init__(self, path):
        self.data = path.read_bytes()
        tensor_count, key_count = struct.unpack_from("<QQ", self.data, 8)
        self.at = 24
        self.keys = {}
        for _ in range(key_count):
            name = self._string()
            kind, begin = struct.unpack_from("<I", self.data, self.at)[0], self.at + 4
            self.at = begin
            self._skip(kind)
            self.keys[name] = (kind, self.data[begin:self.at])
        found = []
        for _ in range(tensor_count):
            name = self._string()
            count = struct.unpack_from("<I", self.data, self.at)[0]
            shape = struct.unpack_from(f"<{count}Q", self.data, self.at + 4)
            kind, offset = struct.unpack_from("<IQ", self.data, self.at + 4 + 8 * count)
            self.at += 16 + 8 * count
            found.append((name, shape, kind, offset))
        begin = self.at + -self.at % ALIGNMENT
        self.tensors = {}
        for name, shape, kind, offset in found:
            size = TYPE_BYTES[kind]
            for length in shape:
                size *= length
            self.tensors[name] = (shape, kind, self.data[begin + offset:begin + offset + size])

    def _string(self):
        length = struct.unpack_from("<Q", self.data, self.at)[0]
        self.at += 8 + length
        return self.data[self.at - length:self.at].decode()

    def _skip(self, kind):
        if kind == 8:
            self._string()
        elif kind == 9:
            inner, count = struct.unpack_from("<IQ", self.data, self.at)
            self.at += 12
            for _ in range(count if inner == 8 else 0):
                self._string()
            self.at += 0 if inner == 8 else count * SIZES[inner]
        else:
            self.at += SIZES[kind]

    def set(self, name, value):
        if isinstance(value, str):
            text = value.encode()
            self.keys[name] = (8, struct.pack("<Q", len(text)) + text)
        else:
            self.keys[name] = (4, struct.pack("<I", value))

    def set_floats(self, name, shape, values):
        self.tensors[name] = (shape, F32, struct.pack(f"<{len(values)}f", *values))

    def rename_keys(self, old, new):
        self.keys = {new + name[len(old):] if name.startswith(old) else name: value for name, value in self.keys.items()}

    def write_parts(self, path, count=2):
        """As a split model: the first part, at `path` without its ending, with all keys, the tensors in turn."""
        parts = []
        tensors, keys = self.tensors, self.keys
        for number in range(count):
            self.keys = dict(keys) if number == 0 else {}
            self.tensors = dict(list(tensors.items())[number::count])
            for name, value in (("no", number), ("count", count), ("tensors.count", len(tensors))):
                self.set(f"split.{name}", value)
            parts.append(path.with_name(f"{path.stem}-{number + 1:05}-of-{count:05}.gguf"))
            self.write(parts[-1])
        self.tensors, self.keys = tensors, keys
        return parts

    def write(self, path):
        def text(name):
            return struct.pack("<Q", len(name.encode())) + name.encode()

        header = self.data[:8] + struct.pack("<QQ", len(self.tensors), len(self.keys))
        for name, (kind, value) in self.keys.items():
            header += text(name) + struct.pack("<I", kind) + value
        blob = bytearray()
        for name, (shape, kind, data) in self.tensors.items():
            header += text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, len(blob))
            blob += data + b"\0" * (-len(data) % ALIGNMENT)
        path.write_bytes(header + b"\0" * (-len(header) % ALIGNMENT) + blob)
