"""The KV stream at full size between two namespaces: kv_wire at both ends of a shaped cable."""

import json
import statistics
import subprocess
import threading
import time

from namespaces import Cable, iperf3
from processes import KV_WIRE, Keys, first_line, output_of, running, temporary_folder, wait_for
from results import Table

PORT = 8771
LAYERS = 32
CHUNK_TOKENS = 512
# K and V of one token in F16: 32 layers, 8 heads of 128.
TOKEN_BYTES = 2 * 2 * 8 * 128 * LAYERS
SLICE_BYTES = CHUNK_TOKENS * TOKEN_BYTES // LAYERS
# What a DGX Spark takes for 8,192 tokens of Llama-3.1-8B, as published.
PROMPT_TOKENS = 8192
PREFILL_S = 1.47
LINK_GBIT = 10
# Payload against all bytes on the wire: frame heads, TLS records, TCP and IP.
MAX_OVERHEAD = 0.03
OUTAGE_S = 3


class Wire:
    """A cable with a sender at a and a receiver at b."""

    def __init__(self, cable, folder):
        self.cable = cable
        self.model = f"{folder}/wire.gguf"
        self.keys = Keys(folder, "sender", "receiver")
        with running([KV_WIRE, "model", self.model]) as child:
            output_of(child, 120)

    def transfer(self, tokens, codec="f16", pace_s=0.0, chunk=CHUNK_TOKENS, disturb=None):
        """One transfer, in kv_wire's own words, and the bytes that the interfaces counted meanwhile."""
        common = ["--tokens", tokens, "--chunk", chunk]
        serve = self.cable.a.command(KV_WIRE, "serve", self.model, "--home", self.keys.homes["sender"], *common,
                                     "--trust", self.keys.fingerprints["receiver"],
                                     "--listen", f"{self.cable.a.address}:{PORT}", "--pace", pace_s)
        with running(serve) as sender:
            address = first_line(sender)
            sent, received = self.cable.a.counter("tx_bytes"), self.cable.b.counter("rx_bytes")
            receive = self.cable.b.command(KV_WIRE, "receive", self.model, "--home", self.keys.homes["receiver"],
                                           *common, "--peer", address, "--codec", codec)
            with running(receive) as receiver:
                disturber = None
                if disturb is not None:
                    disturber = threading.Thread(target=disturb, args=(received,), daemon=True)
                    disturber.start()
                report = json.loads(output_of(receiver, 300))
                if disturber is not None:
                    disturber.join(timeout=60)
            report["rx_bytes"] = self.cable.b.counter("rx_bytes") - received
            report["tx_bytes"] = self.cable.a.counter("tx_bytes") - sent
            report["sender_cpu_s"] = json.loads(output_of(sender, 60))["cpu_s"]
        return report

    def columns(self, report, codec, tokens, pace_s):
        return {"link_gbit": self.cable.gbit or "unshaped", "codec": codec, "tokens": tokens, "pace_s": pace_s,
                "payload_bytes": report["payload_bytes"], "rx_bytes": report["rx_bytes"],
                "seconds": round(report["seconds"], 4), "goodput_gbps": round(report["goodput_gbps"], 3),
                "exposed_ms": round(report["exposed_s"] * 1e3, 3), "transfer_s": round(report["transfer_s"], 4),
                "overlap": round(report["overlap"], 5), "round_trip_ms": round(report["round_trip_s"] * 1e3, 3),
                "clock_offset_ms": round(report["clock_offset_s"] * 1e3, 3), "connections": report["connections"],
                "sender_cpu_s": round(report["sender_cpu_s"], 3), "receiver_cpu_s": round(report["cpu_s"], 3)}


def overhead_of(report):
    return report["rx_bytes"] / report["payload_bytes"] - 1


def tail_limit_s(report, link_gbit):
    """Wire time of two slices, a round trip and 2 ms: what may remain after the last layer."""
    return 2 * SLICE_BYTES * 8 / (link_gbit * 1e9) + report["round_trip_s"] + 2e-3


def wire_bench(options):
    """Full size at a Spark's pace over 10 Gbit/s: the tail that is left, by the receiver's clock."""
    table, reports, faults = Table("handoff-wire", options.results), [], []
    tokens, pace_s = options.tokens(PROMPT_TOKENS), PREFILL_S * options.scale
    with temporary_folder() as folder, Cable() as cable:
        wire = Wire(cable, folder)
        cable.shape(LINK_GBIT)
        for number in range(options.rounds(5)):
            report = wire.transfer(tokens, pace_s=pace_s)
            overhead = overhead_of(report)
            limit_s = tail_limit_s(report, LINK_GBIT)
            reports.append(report | {"limit_s": limit_s})
            table.add(round=number, **wire.columns(report, "f16", tokens, pace_s), limit_ms=round(limit_s * 1e3, 3))
            print(f"wire {number}: {report['payload_bytes'] / 1e9:.2f} GB in {report['seconds']:.3f} s, exposed "
                  f"{report['exposed_s'] * 1e3:.2f} ms of {limit_s * 1e3:.2f} allowed, overlap "
                  f"{report['overlap']:.4f}, interface counted {overhead:+.2%}", flush=True)
            if report["payload_bytes"] < tokens * TOKEN_BYTES or not 0 <= overhead <= MAX_OVERHEAD:
                faults.append(f"wire: {report['payload_bytes']} bytes of payload, but the interface saw "
                              f"{report['rx_bytes']}")
    exposed = statistics.median(report["exposed_s"] for report in reports)
    overlap = statistics.median(report["overlap"] for report in reports)
    limit = statistics.median(report["limit_s"] for report in reports)
    print(f"wire: median exposed tail {exposed * 1e3:.2f} ms (allowed {limit * 1e3:.2f}): "
          f"{'met' if exposed <= limit else 'MISSED'}; overlap {overlap:.4f} (wanted 0.99): "
          f"{'met' if overlap >= 0.99 else 'MISSED'}")
    return faults


def sweep_bench(options):
    """The same prefill over slower and faster links, with each codec."""
    table = Table("handoff-sweep", options.results)
    tokens, pace_s = options.tokens(PROMPT_TOKENS), PREFILL_S * options.scale
    with temporary_folder() as folder, Cable() as cable:
        wire = Wire(cable, folder)
        for gbit in (1, 2.5, 5, 7.5, 10, None):
            cable.shape(gbit)
            for codec in ("f16", "q8_0", "q4_0"):
                for number in range(options.rounds(3)):
                    report = wire.transfer(tokens, codec, pace_s)
                    table.add(round=number, **wire.columns(report, codec, tokens, pace_s))
                print(f"sweep {gbit or 'unshaped'} Gbit/s, {codec}: {report['payload_bytes'] / tokens:.0f} bytes per "
                      f"token, exposed {report['exposed_s'] * 1e3:.1f} ms, overlap {report['overlap']:.4f}", flush=True)
    return []


def goodput_bench(options):
    """A filled cache as fast as it goes, in turns with iperf3 on the same cable."""
    table = Table("handoff-goodput", options.results)
    tokens = options.tokens(2 * PROMPT_TOKENS)
    with temporary_folder() as folder, Cable() as cable:
        wire = Wire(cable, folder)

        def baton():
            report = wire.transfer(tokens)
            return {"bytes": report["payload_bytes"], "seconds": report["seconds"], "gbps": report["goodput_gbps"],
                    "send_cpu_s": report["sender_cpu_s"], "receive_cpu_s": report["cpu_s"]}

        programs = {"baton": baton, "iperf3": lambda: iperf3(cable, tokens * TOKEN_BYTES)}
        for gbit in (10, 2.5, 1, None):
            cable.shape(gbit)
            rates = {name: [] for name in programs}
            for number in range(options.rounds(5)):
                # Who goes first changes, so that a machine that slows down slows both.
                for name in list(programs) if number % 2 == 0 else reversed(list(programs)):
                    figures = programs[name]()
                    rates[name].append(figures["gbps"])
                    rounded = {key: round(value, 4) for key, value in figures.items()}
                    table.add(round=number, link_gbit=gbit or "unshaped", program=name, **rounded)
            ours, theirs = (statistics.median(rates[name]) for name in ("baton", "iperf3"))
            verdict = "" if gbit is None else ": met" if ours >= 0.95 * theirs else ": MISSED"
            print(f"goodput {gbit or 'unshaped'} Gbit/s: baton {ours:.3f}, iperf3 {theirs:.3f}, "
                  f"{ours / theirs:.1%} (wanted 95%{verdict})", flush=True)
    return []


def cut_bench(options):
    """What a cut costs: a connection reset in the middle, and a cable pulled for longer than silence is borne."""
    table, faults = Table("handoff-cut", options.results), []
    tokens = options.tokens(PROMPT_TOKENS)
    with temporary_folder() as folder, Cable() as cable:
        wire = Wire(cable, folder)
        cable.shape(LINK_GBIT / 4)  # slow enough to be cut in the middle, whatever the bench itself costs

        def half_way(received):
            wait_for(lambda: cable.b.counter("rx_bytes") - received > tokens * TOKEN_BYTES / 2, 120)

        def reset(received):
            half_way(received)
            cable.reset_connections(PORT)

        def pull(received):
            half_way(received)
            cable.pull()
            try:
                time.sleep(OUTAGE_S)
            finally:
                cable.plug_in()

        seconds = {"none": [], "reset": [], "unplugged": []}
        for number in range(options.rounds(5)):
            for kind, disturb in (("none", None), ("reset", reset), ("unplugged", pull)):
                try:
                    report = wire.transfer(tokens, disturb=disturb)
                except (RuntimeError, subprocess.TimeoutExpired) as error:
                    faults.append(f"cut ({kind}): {error}")
                    continue
                seconds[kind].append(report["seconds"])
                again = report["wire_payload_bytes"] - report["payload_bytes"]
                columns = wire.columns(report, "f16", tokens, 0)
                for of_a_paced_prefill in ("exposed_ms", "transfer_s", "overlap"):
                    del columns[of_a_paced_prefill]
                table.add(round=number, cut=kind, outage_s=OUTAGE_S if kind == "unplugged" else 0, **columns,
                          repeated_bytes=again)
                print(f"cut {number} ({kind}): {report['seconds']:.3f} s, {report['connections']} connections, "
                      f"{again / 1e6:.2f} MB came twice", flush=True)
                if report["connections"] < 2 and kind != "none" or report["payload_bytes"] < tokens * TOKEN_BYTES:
                    faults.append(f"cut ({kind}): {report['connections']} connections, "
                                  f"{report['payload_bytes']} bytes")
    whole = {kind: statistics.median(values) for kind, values in seconds.items() if values}
    if "none" in whole:
        if "reset" in whole:
            print(f"cut: a reset connection costs {(whole['reset'] - whole['none']) * 1e3:.0f} ms")
        if "unplugged" in whole:
            print(f"cut: {OUTAGE_S} s without a cable cost {whole['unplugged'] - whole['none']:.2f} s")
    return faults
