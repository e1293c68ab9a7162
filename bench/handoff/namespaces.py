"""Two network namespaces of this machine with one shaped cable between them. Needs root, iproute2 and Linux."""

import json
import os
import signal
import subprocess

# As deep a queue as a switch port has, and bursts that the kernel's timer can make up for.
BURST = "4mb"
QUEUE = "20ms"
DEVICE = "eth0"


def check(command, timeout_s=60):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=timeout_s,
                          check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, command))}: {done.stderr.strip() or done.stdout.strip()}"[-2000:])
    return done.stdout


class Side:
    """One end of the cable."""

    def __init__(self, namespace, address):
        self.namespace = namespace
        self.address = address

    def command(self, *parts):
        return ["ip", "netns", "exec", self.namespace, *[str(part) for part in parts]]

    def ip(self, *parts):
        return check(["ip", "-n", self.namespace, *parts])

    def counter(self, name):
        """A counter of the interface, such as rx_bytes: what the kernel saw, whatever the programs say."""
        return int(check(self.command("cat", f"/sys/class/net/{DEVICE}/statistics/{name}")))


class Cable:
    """Both ends; the namespaces, and with them everything in them, go away at the end."""

    def __init__(self):
        self.a = Side(f"baton-{os.getpid()}-a", "10.77.0.1")
        self.b = Side(f"baton-{os.getpid()}-b", "10.77.0.2")
        self.gbit = None

    def __enter__(self):
        try:
            for side in (self.a, self.b):
                check(["ip", "netns", "add", side.namespace])
            check(["ip", "link", "add", DEVICE, "netns", self.a.namespace, "type", "veth",
                   "peer", "name", DEVICE, "netns", self.b.namespace])
            for side in (self.a, self.b):
                side.ip("addr", "add", f"{side.address}/24", "dev", DEVICE)
                side.ip("link", "set", DEVICE, "up")
                side.ip("link", "set", "lo", "up")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for side in (self.a, self.b):
            # What still runs in there would keep the namespace alive. Only our own children can be in it.
            pids = subprocess.run(["ip", "netns", "pids", side.namespace], capture_output=True, text=True, check=False)
            for pid in pids.stdout.split():
                try:
                    os.kill(int(pid), signal.SIGKILL)
                except ProcessLookupError:
                    pass
            subprocess.run(["ip", "netns", "del", side.namespace], capture_output=True, check=False)

    def shape(self, gbit):
        """Both directions to this rate; None: as fast as the kernel moves bytes."""
        self.gbit = gbit
        for side in (self.a, self.b):
            tc = ["tc", "-n", side.namespace, "qdisc"]
            if gbit is None:
                subprocess.run([*tc, "del", "dev", DEVICE, "root"], capture_output=True, check=False)
            else:
                check([*tc, "replace", "dev", DEVICE, "root", "tbf", "rate", f"{gbit * 1000:.0f}mbit",
                       "burst", BURST, "latency", QUEUE])

    def reset_connections(self, port):
        """Kills what is connected to this port of a: both ends see a reset (needs CONFIG_INET_DIAG_DESTROY)."""
        return check(self.a.command("ss", "-K", "-t", "-H", "state", "established", "sport", "=", f":{port}"))

    def pull(self):
        self.a.ip("link", "set", DEVICE, "down")

    def plug_in(self):
        self.a.ip("link", "set", DEVICE, "up")


def iperf3(cable, size_bytes, timeout_s=300):
    """One stream from a to b: bits per second as the receiver counts them, and CPU seconds of both processes."""
    server = subprocess.Popen(cable.b.command("iperf3", "-s", "-1", "--forceflush"), stdout=subprocess.PIPE, text=True)
    try:
        # It has written its banner when it listens.
        while "listening" not in (line := server.stdout.readline()):
            if not line:
                raise RuntimeError("iperf3 -s ended before it listened")
        report = json.loads(check(cable.a.command("iperf3", "-c", cable.b.address, "-n", size_bytes, "-J"), timeout_s))
        server.communicate(timeout=30)
    finally:
        server.kill()
        server.wait()
    received = report["end"]["sum_received"]
    cpu = report["end"]["cpu_utilization_percent"]
    return {"bytes": received["bytes"], "seconds": received["seconds"], "gbps": received["bits_per_second"] / 1e9,
            "send_cpu_s": cpu["host_total"] / 100 * received["seconds"],
            "receive_cpu_s": cpu["remote_total"] / 100 * received["seconds"]}
