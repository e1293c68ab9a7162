"""Nodes that find each other on the local network, by a real avahi-daemon in a network namespace for each machine."""

import os
import pathlib
import shutil
import subprocess
import time
import unittest

import fault_world
from fault_world import Network
from test_cluster import Processes, wait_for

BUS = """<busconfig><type>system</type><listen>unix:path={folder}/bus</listen><auth>EXTERNAL</auth>
<policy context="default"><allow user="*"/><allow own="*"/><allow send_destination="*"/><allow receive_sender="*"/></policy>
</busconfig>
"""
AVAHI = """[server]
host-name={name}
use-ipv4=yes
use-ipv6=no
allow-interfaces=eth0
[wide-area]
enable-wide-area=no
"""
# In a mount namespace of its own, which 'ip netns exec' makes: where the daemon keeps its number is fixed.
START = """mkdir -p /run/avahi-daemon && mount -t tmpfs tmpfs /run/avahi-daemon
export DBUS_SYSTEM_BUS_ADDRESS=unix:path={folder}/bus
dbus-daemon --config-file={folder}/bus.conf --nofork --nopidfile & bus=$!
until [ -S {folder}/bus ]; do sleep 0.05; done
avahi-daemon --no-drop-root --no-chroot --no-rlimits --no-proc-title -f {folder}/avahi.conf & daemon=$!
trap 'kill $daemon $bus' TERM
wait $daemon
kill $bus
"""


# Where the daemon refuses, a node asks it again after a quarter of a minute.
ANNOUNCED_S = 60


def can_run():
    return shutil.which("avahi-daemon") and shutil.which("dbus-daemon") and fault_world.can_run()


@unittest.skipUnless(can_run(), "needs root, network namespaces, avahi-daemon and dbus-daemon")
class FoundOnTheLocalNetwork(Processes):
    def setUp(self):
        super().setUp()
        self.network = Network(2)
        self.network.__enter__()
        self.addCleanup(self.network.__exit__)
        self.daemons = [self.daemon(number) for number in range(2)]

    def daemon(self, number):
        folder = self.folder / f"daemon-{number}"
        folder.mkdir()
        (folder / "bus.conf").write_text(BUS.format(folder=folder))
        (folder / "avahi.conf").write_text(AVAHI.format(name=f"machine{number}"))
        with open(folder / "log", "w") as log:
            daemon = subprocess.Popen(["ip", "netns", "exec", self.network.machines[number], "sh", "-c", START.format(folder=folder)],
                                      stdout=log, stderr=log)
        self.addCleanup(self.end, daemon)
        wait_for(lambda: "Server startup complete" in (folder / "log").read_text(), "the daemon is up", 20)
        return daemon

    def end(self, daemon):
        daemon.terminate()
        daemon.wait(timeout=20)

    def prefix(self, number):
        bus = f"DBUS_SYSTEM_BUS_ADDRESS=unix:path={self.folder}/daemon-{number}/bus"
        return ["ip", "netns", "exec", self.network.machines[number], "env", bus]

    def log_of(self, machine):
        return pathlib.Path(f"{machine.data}.log").read_text()

    def test_machines_join_and_meet_without_knowing_an_address(self):
        a, b = [self.machine(name, host="0.0.0.0", prefix=self.prefix(number)) for number, name in enumerate("ab")]
        a.up()
        wait_for(lambda: "announced on the local network as _baton._tcp" in self.log_of(a), "it announces itself", ANNOUNCED_S)
        if shutil.which("avahi-browse"):
            def seen():
                return subprocess.run([*self.prefix(1), "avahi-browse", "-rpt", "_baton._tcp"], stdout=subprocess.PIPE, text=True,
                                      timeout=30).stdout

            wait_for(lambda: f"n={a.address.split('#')[1]}" in seen(), "others see its key", 20)
        token = a.must("token").strip()
        # Nobody is at the address that is given. It looks around for three seconds, in which a busy machine may miss it.
        for _ in range(3):
            joined = b.baton("join", token, "10.78.0.99:8771", "--name", "b")
            if joined.returncode == 0:
                break
        self.assertEqual(joined.returncode, 0, joined.stderr)
        self.assertIn("found on the local network", joined.stdout)
        self.assertNotIn("avahi", joined.stderr.lower())
        b.up()
        wait_for(lambda: a.status("b") == b.status("a") == "alive", "they meet", 30)
        # Both come back where nobody remembers them.
        for machine in (a, b):
            machine.kill()
            machine.port = 0
        for machine in (a, b):
            machine.up()
        wait_for(lambda: a.status("b") == b.status("a") == "alive", "they find each other", 60)

    def test_a_daemon_that_goes_and_comes_back(self):
        a = self.machine("a", host="0.0.0.0", prefix=self.prefix(0))
        a.up()
        announced = "announced on the local network as"
        wait_for(lambda: announced in self.log_of(a), "it announces itself", ANNOUNCED_S)
        before = len(self.log_of(a))
        self.end(self.daemons[0])
        wait_for(lambda: "and not on the local network" in self.log_of(a)[before:], "it says that the daemon is gone", 30)
        self.assertEqual(a.status("a"), "self")
        shutil.rmtree(self.folder / "daemon-0")
        self.daemons[0] = self.daemon(0)
        wait_for(lambda: announced in self.log_of(a)[before:], "it announces itself again", ANNOUNCED_S)


class WithoutADaemon(Processes):
    def test_a_node_says_that_it_is_not_found_on_the_local_network(self):
        a = self.machine("a", host="0.0.0.0")
        environment = dict(os.environ)
        os.environ["DBUS_SYSTEM_BUS_ADDRESS"] = f"unix:path={self.folder}/nobody"
        try:
            a.up()
        finally:
            os.environ.clear()
            os.environ.update(environment)
        log = pathlib.Path(f"{a.data}.log")
        wait_for(lambda: "and not on the local network" in log.read_text(), "it says so", 30)
        time.sleep(0.1)
        self.assertEqual(a.status("a"), "self")


if __name__ == "__main__":
    unittest.main()
