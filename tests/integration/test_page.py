"""The chat page: its files as any client gets them, and itself in a browser."""

import gzip
import http.client
import re
import shutil
import unittest

import npm
from api_server import ApiServer
from cluster import ROOT, Cluster
from test_chat import GOLDEN, TEMPLATE, with_template

KEY = "the-first-key-of-all"
# A token takes some 20 ms, on any machine: long enough to see it come.
SLOW = ["--emulate-tflops", "1", "--emulate-gbps", "0.4", "--speculate", "off"]
BROWSERS = ("chromium", "chromium-browser", "google-chrome-stable")


class Page(unittest.TestCase):
    def setUp(self):
        self.machines = []

    def tearDown(self):
        for machine in self.machines:
            machine.__exit__()

    def server(self, *flags, keys=()):
        """Each has a folder, and so a cluster, of its own."""
        cluster = Cluster().__enter__()
        self.machines.append(cluster)
        model = cluster.folder / "chat.gguf"
        with_template(GOLDEN, model, TEMPLATE)
        if keys:
            key_file = cluster.folder / "keys"
            key_file.write_text("\n".join(keys) + "\n")
            flags = (*flags, "--api-key-file", str(key_file))
        server = ApiServer(cluster, model, "--ctx", "4096", "--quiet", *flags).__enter__()
        # The server ends before its folder goes.
        self.machines.insert(0, server)
        return server

    def test_its_files_are_there_compressed_and_kept(self):
        server = self.server(keys=(KEY,))
        status, headers, page = server.request("GET", "/")
        self.assertEqual((status, headers["Content-Type"]), (200, "text/html; charset=utf-8"))
        self.assertIn("default-src 'none'", headers["Content-Security-Policy"])
        self.assertEqual(server.request("GET", "/v1/models")[0], 401)
        # No address but this server's: the page works without a network.
        self.assertEqual(re.findall(rb"""(?:src|href)=["'](?!/assets/)""", page), [])
        again = server.request("GET", "/", headers={"If-None-Match": headers["ETag"]})
        self.assertEqual((again[0], again[2]), (304, b""))
        self.assertEqual(server.request("HEAD", "/")[2], b"")
        for path in re.findall(rb"/assets/[^\"']+", page):
            status, headers, content = server.request("GET", path.decode())
            self.assertEqual(status, 200, path)
            self.assertIn("immutable", headers["Cache-Control"])
            zipped = server.request("GET", path.decode(), headers={"Accept-Encoding": "gzip"})
            if "Content-Encoding" in zipped[1]:
                self.assertEqual(gzip.decompress(zipped[2]), content, path)
        self.assertEqual(server.request("GET", "/assets/nothing.js")[0], 404)

    def test_a_refused_file_costs_no_connection(self):
        server = self.server()
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
        for path, expected in (("/assets/nothing.js", 404), ("/", 200)):
            connection.request("GET", path)
            response = connection.getresponse()
            response.read()
            self.assertEqual(response.status, expected)
        connection.close()

    def test_a_person_can_use_it(self):
        browser = next(filter(None, map(shutil.which, BROWSERS)), None)
        if browser is None:
            self.skipTest("no Chromium is installed: the page is not tried in a browser")
        server = self.server("--default-predict", "40", *SLOW)
        if b'id="question"' not in server.request("GET", "/")[2]:
            self.skipTest("this program was built without the chat page")
        slow, keyed = self.server(*SLOW), self.server("--default-predict", "20", keys=(KEY,))
        work = self.machines[-1].folder / "page"
        npm.install(ROOT / "tests/page", work)
        npm.run_tests(work, ["page.test.js"], timeout_s=240, CHROMIUM=browser, BATON_API=server.url, BATON_SLOW_API=slow.url,
                      BATON_SLOW_PID=str(slow.process.pid), BATON_KEYED_API=keyed.url, BATON_KEY=KEY)


class Sources(unittest.TestCase):
    def test_the_pages_own_tests_pass(self):
        with Cluster() as machines:
            work = machines.folder / "web"
            npm.install(ROOT / "web", work)
            npm.run_script(work, "test")


if __name__ == "__main__":
    unittest.main()
