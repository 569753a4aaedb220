"""Tests of the kit: `python3 -m unittest discover -t benches -s benches/kit`.

The last class runs the real programs: a comparison is worth something only if a proxy that
answers fast and wrong cannot win it.
"""

import os
import shutil
import tempfile
import unittest

from kit import load, machine, origins, report, scenarios, websocket
from kit.load import Failed, H2load, Wrk
from kit.process import CpuWindow, servers
from kit.proxies import Gwproxy, Haproxy, Nginx, Setting, Unsupported

WRK = (
    '@{{"requests":1000,"bytes":{bytes},"microseconds":500000,"p50":10,"p99":20,'
    '"connect":0,"read":{read},"write":0,"status":{status},"timeout":0}}\n'
)
H2LOAD = """finished in 501.35ms, 20.00 req/s, 17.99MB/s
requests: 10 total, 12 started, 10 done, {ok} succeeded, {bad} failed, 0 errored, 0 timeout
status codes: {good} 2xx, 0 3xx, 0 4xx, {bad} 5xx
traffic: 9.00MB (9432480) total, 785B (785) headers (space savings 94.02%), 1.0KB ({data}) data
"""


class Wrks(unittest.TestCase):
    """What wrk's report must say to be believed."""

    def test_counts_are_read(self):
        counts = load.parse_wrk("noise\n" + WRK.format(bytes=250_000, read=0, status=0), 100)
        self.assertEqual(counts, {
            "requests": 1000, "bytes": 250_000, "seconds": 0.5, "p50_us": 10, "p99_us": 20,
        })

    def test_error_status_fails(self):
        with self.assertRaisesRegex(Failed, "'status': 3"):
            load.parse_wrk(WRK.format(bytes=250_000, read=0, status=3), 100)

    def test_socket_error_fails(self):
        with self.assertRaisesRegex(Failed, "'read': 1"):
            load.parse_wrk(WRK.format(bytes=250_000, read=1, status=0), 100)

    def test_short_answers_fail(self):
        with self.assertRaisesRegex(Failed, "99999 bytes, 100000 expected"):
            load.parse_wrk(WRK.format(bytes=99_999, read=0, status=0), 100)

    def test_no_report_fails_with_its_words(self):
        with self.assertRaisesRegex(Failed, "unable to connect"):
            load.parse_wrk("unable to connect to 127.0.0.1", 100)


class H2loads(unittest.TestCase):
    """What h2load's report and log must say to be believed."""

    def setUp(self):
        self.log = tempfile.NamedTemporaryFile("w", suffix=".log")
        self.addCleanup(self.log.close)

    def parse(self, ok=10, bad=0, good=10, data=1000, lines=10):
        self.log.write("".join(f"1\t200\t{microseconds}\n" for microseconds in range(lines)))
        self.log.flush()
        output = H2LOAD.format(ok=ok, bad=bad, good=good, data=data)
        return load.parse_h2load(output, 100, self.log.name, 2)

    def test_counts_are_read(self):
        counts = self.parse()
        self.assertAlmostEqual(counts.pop("seconds"), 0.50135)
        self.assertEqual(counts, {"requests": 10, "bytes": 1000, "p50_us": 5, "p99_us": 9})

    def test_requests_in_flight_at_the_end_are_no_error(self):
        self.assertEqual(self.parse(good=12, data=1150)["requests"], 10)

    def test_error_status_fails(self):
        with self.assertRaisesRegex(Failed, "1 5xx"):
            self.parse(ok=9, bad=1, good=9)

    def test_missing_bytes_fail(self):
        with self.assertRaisesRegex(Failed, "999 bytes, 1000 expected"):
            self.parse(data=999)

    def test_surplus_bytes_fail(self):
        with self.assertRaisesRegex(Failed, "1201 bytes"):
            self.parse(data=1201)

    def test_log_of_another_run_fails(self):
        with self.assertRaisesRegex(Failed, "11 of 10"):
            self.parse(lines=11)


class Reports(unittest.TestCase):
    """Medians, ratios and limits."""

    scenario = scenarios.SCENARIOS["h1-small"]

    def rows(self, **micros):
        rows = []
        for proxy, values in micros.items():
            row = report.Row(proxy)
            row.samples = [
                {"requests": 1, "cpu_seconds": value / 1e6, "seconds": 1, "p50_us": 1,
                 "p99_us": 1, "busy": 1, "foreign": 0, "system_share": 0}
                for value in values
            ]
            rows.append(row)
        return rows

    def test_ratio_is_to_the_best_peer_of_the_same_round(self):
        rows = self.rows(gwproxy=[9, 18, 10], nginx=[10, 20, 10], haproxy=[11, 30, 12])
        value = report.summary(self.scenario, rows)["gwproxy"]["value"]
        self.assertEqual(value["best_peer"], "nginx")
        self.assertAlmostEqual(value["ratio"], 0.9)
        self.assertAlmostEqual(value["ratio_max"], 1.0)
        self.assertAlmostEqual(value["median"], 10)

    def test_gwproxy_is_never_the_peer(self):
        rows = self.rows(gwproxy=[1, 1, 1], nginx=[10, 10, 10])
        result = report.summary(self.scenario, rows)
        self.assertAlmostEqual(result["nginx"]["value"]["ratio"], 1.0)

    def test_failed_row_is_neither_peer_nor_number(self):
        rows = self.rows(gwproxy=[9, 9, 9], nginx=[1, 1, 1], haproxy=[10, 10, 10])
        rows[1].failure = "answered 502"
        result = report.summary(self.scenario, rows)
        self.assertEqual(result["gwproxy"]["value"]["best_peer"], "haproxy")
        self.assertNotIn("value", result["nginx"])
        table = report.table("h1-small", self.scenario, rows, result)
        self.assertIn("| nginx | FAILED: answered 502 |", table)

    def test_requirement(self):
        rows = self.rows(gwproxy=[12, 12, 12], nginx=[10, 10, 10])
        results = {
            "h1-small": report.summary(self.scenario, rows) | {"less_is_better": True}
        }
        self.assertEqual(report.exceeded({"h1-small": 1.3}, results), [])
        self.assertIn("ratio 1.20, at most 1.1", report.exceeded({"h1-small": 1.1}, results)[0])
        self.assertIn("no ratio", report.exceeded({"h2": 1.0}, results)[0])


class Frames(unittest.TestCase):
    """The few frames of RFC 6455 that the WebSocket load speaks."""

    def test_accept_of_the_rfc(self):
        # RFC 6455 §1.3
        accept = websocket.accept_of(b"dGhlIHNhbXBsZSBub25jZQ==")
        self.assertEqual(accept, b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")

    def test_masked_hello_of_the_rfc(self):
        # RFC 6455 §5.7
        hello = bytes.fromhex("81 85 37 fa 21 3d 7f 9f 4d 51 58")
        self.assertEqual(websocket.frame(websocket.TEXT, b"Hello", hello[2:6]), hello)
        self.assertEqual(websocket.take_frame(bytearray(hello)), (websocket.TEXT, b"Hello"))

    def test_a_frame_is_taken_only_whole(self):
        whole = websocket.frame(websocket.TEXT, b"abc")
        for length in range(len(whole)):
            buffer = bytearray(whole[:length])
            self.assertIsNone(websocket.take_frame(buffer))
            self.assertEqual(len(buffer), length)
        buffer = bytearray(whole + whole[:3])
        self.assertEqual(websocket.take_frame(buffer), (websocket.TEXT, b"abc"))
        self.assertEqual(buffer, whole[:3])


class WithRealPrograms(unittest.TestCase):
    """nginx, HAProxy and the load generators themselves."""

    def setUp(self):
        machine.require(machine.PACKAGES)
        self.proxy_core, self.load_core = machine.choose_cores(None)
        self.work = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.work)

    def setting(self, mode, origin):
        work = tempfile.mkdtemp(dir=self.work)
        return Setting(mode, machine.free_port(), origin, work, None, True)

    def start(self, start, name, command, port):
        return start(name, command, self.proxy_core, port, os.path.join(self.work, name))

    def test_fast_503_fails_the_check_and_the_load(self):
        """A proxy that refuses everything at once is the fastest of all, and must not count."""
        cases = [
            ("http", scenarios.SCENARIOS["h1-small"], Wrk(4, "/"), "answered 503"),
            ("grpc", scenarios.SCENARIOS["grpc-unary"],
             H2load(2, 2, origins.GRPC_PATH, origins.GRPC_MESSAGE), "did not answer 200"),
        ]
        for mode, scenario, generator, words in cases:
            with self.subTest(mode), servers() as start:
                setting = self.setting(mode, machine.free_port())
                command = Haproxy().command(setting)
                with open(command[-1], "a") as config:
                    config.write("    http-request return status 503\n")
                server = self.start(start, "haproxy", command, setting.listen)
                with self.assertRaisesRegex(Failed, words):
                    scenario.check(server, self.work)
                with self.assertRaisesRegex(Failed, "counted errors: .*(status|5xx)"):
                    generator.run(
                        self.load_core, "http", server.port, 0.2, len(scenario.body), self.work
                    )

    def test_every_peer_does_the_work_of_every_scenario(self):
        tls = origins.TlsFiles(self.work)
        seen = 0
        for name, scenario in scenarios.SCENARIOS.items():
            for peer in (Nginx(), Haproxy()):
                with self.subTest(name, peer=peer.name), servers() as start:
                    port = machine.free_port()
                    work = tempfile.mkdtemp(dir=self.work)
                    self.start(start, "origin", scenario.origin_command(port, work), port)
                    setting = self.setting(scenario.mode, port)
                    setting.tls = tls
                    try:
                        command = peer.command(setting)
                    except Unsupported:
                        continue
                    server = self.start(start, peer.name, command, setting.listen)
                    scenario.check(server, self.work)
                    window = CpuWindow(server, self.proxy_core)
                    counts = scenario.load.run(
                        self.load_core, scenario.scheme, server.port, 0.2,
                        len(scenario.body), self.work,
                    )
                    self.assertGreater(counts["requests"], 0)
                    self.assertGreater(window.stop()["cpu_seconds"], 0)
                    seen += 1
        # HAProxy does all; nginx all but h2 to the origin, which needs 1.29.4.
        self.assertGreaterEqual(seen, 2 * len(scenarios.SCENARIOS) - 1)

    def test_peers_send_the_same_forwarding_fields(self):
        with servers() as start:
            port = machine.free_port()
            work = tempfile.mkdtemp(dir=self.work)
            self.start(start, "origin", origins.http1_command(port, work), port)
            for peer in (Nginx(), Haproxy()):
                setting = self.setting("http", port)
                server = self.start(start, peer.name, peer.command(setting), setting.listen)
                self.assertEqual(
                    scenarios.forwarding_fields(server.port), list(origins.FORWARDING_FIELDS)
                )

    def test_everything_started_is_ended(self):
        with servers() as start:
            port = machine.free_port()
            work = tempfile.mkdtemp(dir=self.work)
            server = self.start(start, "nginx", origins.http1_command(port, work), port)
            tree = machine.process_tree(server.pid)
            self.assertGreater(len(tree), 1)
        self.assertEqual([pid for pid in tree if os.path.exists(f"/proc/{pid}")], [])

    def test_gwproxy_missing_is_said_not_failed(self):
        with self.assertRaisesRegex(Unsupported, "not built"):
            Gwproxy(None).command(self.setting("http", 1))


if __name__ == "__main__":
    unittest.main()
