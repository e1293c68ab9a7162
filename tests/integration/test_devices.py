import json
import os
import pathlib
import re
import unittest
from unittest import mock

from cluster import Cluster, RunFailed

# Mesa's software driver under ggml's Vulkan backend, which passes it over unless told so, with shaders in F32.
SOFTWARE = {"GGML_VK_VISIBLE_DEVICES": "0", "GGML_VK_DISABLE_F16": "1"}
# It compiles its shaders at first use and keeps them on disk.
COMPILE_TIMEOUT_S = 400


def software_driver_fault():
    """Why Mesa's software driver cannot be used here, or nothing."""
    named = os.environ.get("VK_DRIVER_FILES") or os.environ.get("VK_ICD_FILENAMES")
    files = named.split(":") if named else sorted(pathlib.Path("/usr/share/vulkan/icd.d").glob("lvp_icd*.json"))
    if not files:
        return "needs ggml's Vulkan backend and Mesa's software driver: see docs/install.md"
    version = json.loads(pathlib.Path(files[0]).read_text(encoding="utf-8"))["ICD"]["api_version"]
    if tuple(map(int, version.split(".")[:2])) < (1, 3):
        return "Mesa's software driver is too old here: 22.3 frees buffers that it still uses"
    return None


class UnlikeDevices(unittest.TestCase):
    """Prefill on one kind of device and decode on another, in real processes: the text is the CPU's own.

    BATON_TEST_DEVICE names the other device, such as CUDA0; without it this is the software driver."""

    @classmethod
    def setUpClass(cls):
        named = os.environ.get("BATON_TEST_DEVICE", "")
        cls.device = named or "Vulkan0"
        if not named and (fault := software_driver_fault()):
            raise unittest.SkipTest(fault)
        environment = mock.patch.dict(os.environ, {} if named else SOFTWARE)
        environment.start()
        cls.addClassCleanup(environment.stop)
        cls.cluster = Cluster().__enter__()
        cls.addClassCleanup(cls.cluster.__exit__)
        try:
            # Also compiles: later processes find their shaders on disk, and no deadline passes meanwhile.
            cls.there = cls.cluster.run("--device", cls.device, timeout_s=COMPILE_TIMEOUT_S)
        except RunFailed as error:
            if named or not re.search("there is no device", error.stderr):
                raise
            raise unittest.SkipTest("needs ggml's Vulkan backend: see docs/install.md")
        cls.alone = cls.cluster.run()
        cls.cpu = cls.cluster.node("A")
        cls.other = cls.cluster.node("B", "--device", cls.device)
        cls.peers = ["--peer", cls.cpu.peer(), "--peer", cls.other.peer()]

    def check(self, shape, *flags):
        result = self.cluster.run(*self.peers, *flags)
        self.assertEqual(result["tokens"], self.alone["tokens"])
        self.assertEqual(result["shape"], shape)
        self.assertEqual(result["recoveries"], 0, result["stderr"])
        return result

    def test_the_device_alone(self):
        self.assertEqual(self.there["tokens"], self.alone["tokens"])

    def test_the_device_reads_and_the_cpu_writes(self):
        result = self.check("disaggregated", "--prefill-on", "B")
        self.assertGreater(result["transfer"]["payload_bytes"], 0)

    def test_the_cpu_reads_and_the_device_writes(self):
        result = self.check("disaggregated", "--prefill-on", "A", "--device", self.device)
        self.assertGreater(result["transfer"]["payload_bytes"], 0)

    def test_the_device_reads_and_another_of_its_kind_writes(self):
        self.check("disaggregated", "--prefill-on", "B", "--device", self.device)

    def test_both_share_the_prompt_and_the_cpu_writes(self):
        self.check("joint", "--prefill-on", "B", "--split", "5")

    def test_both_share_the_prompt_and_the_device_writes(self):
        self.check("joint", "--prefill-on", "A", "--split", "5", "--device", self.device)

    def test_relay_over_the_cpu_and_the_device(self):
        self.check("relay", "--plan", "prefill=A:0-3,B:3-6,local:6-8;decode=local:0-8")

    def test_pooled_over_the_cpu_and_the_device(self):
        self.check("pooled", "--plan", "prefill=A:0-4,B:4-6,local:6-8;decode=A:0-4,B:4-6,local:6-8")

    def test_kv_in_q8_0_travels_between_them(self):
        result = self.cluster.run(*self.peers, "--prefill-on", "B", "--codec", "q8_0")
        self.assertEqual(len(result["tokens"]), len(self.alone["tokens"]))
        self.assertEqual(result["recoveries"], 0, result["stderr"])


if __name__ == "__main__":
    unittest.main()
