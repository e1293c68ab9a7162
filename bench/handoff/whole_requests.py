"""Whole requests: two cores of this machine as two nodes, without emulation; and the demo."""

import hashlib
import os
import statistics

from models import synthetic_model
from processes import BATON, Keys, first_line, json_of, running, temporary_folder
from results import Table

PROMPT_TOKENS = 1024
NEW_TOKENS = 64
CHUNK_TOKENS = 128
LAYERS = 16


def prompt(tokens):
    return ",".join(str(300 + (i * 2654435761 % 2**32) % 7000) for i in range(tokens))


def digest_of(tokens):
    return hashlib.sha256(",".join(map(str, tokens)).encode()).hexdigest()[:16]


def halves_bench(options):
    """Prefill on one core and decode on the other, two processes, against each core alone and both as one."""
    table, faults = Table("handoff-halves", options.results), []
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        return ["halves: this process may use only one core"]
    first, second = cores[:2]
    tokens = options.tokens(PROMPT_TOKENS)
    model = synthetic_model(BATON, "q4_0")

    def on(core, *command):
        return ["taskset", "-c", core, BATON, *command]

    with temporary_folder() as folder:
        keys = Keys(folder, "node", "client")
        flags = ["--chunk", CHUNK_TOKENS, "--ctx", tokens + NEW_TOKENS]
        node_command = on(first, "node", model, "--quiet", "--listen", "127.0.0.1:0", "-t", 1,
                          "--home", keys.homes["node"], "--trust", keys.fingerprints["client"], *flags)
        with running(node_command) as node:
            peer = first_line(node)

            def request(core, threads, *plan):
                return json_of(on(core, "run", model, "--json", "--ignore-eos", "--tokens", prompt(tokens), "-n",
                                  NEW_TOKENS, "-t", threads, "--home", keys.homes["client"], *flags, *plan))

            # An idle node does not spin, so it may stay while others are measured.
            rows = {"first core alone": lambda: request(first, 1),
                    "second core alone": lambda: request(second, 1),
                    "disaggregated": lambda: request(second, 1, "--prefill-on", peer),
                    "joint": lambda: request(second, 1, "--prefill-on", peer, "--split", LAYERS // 2),
                    "both cores as one": lambda: request(f"{first},{second}", 2)}
            totals, texts = {name: [] for name in rows}, {}
            for number in range(options.rounds(3)):
                for name in list(rows) if number % 2 == 0 else reversed(list(rows)):
                    result = rows[name]()
                    times = result["timings"]
                    totals[name].append(times["total_s"])
                    texts.setdefault(name, digest_of(result["tokens"]))
                    table.add(round=number, row=name, prompt_tokens=tokens, new_tokens=len(result["tokens"]),
                              ttft_s=round(times["first_token_s"], 4), prefill_s=round(times["prefill_s"], 4),
                              exposed_ms=round(times["exposed_transfer_s"] * 1e3, 3),
                              decode_s=round(times["decode_s"], 4), total_s=round(times["total_s"], 4),
                              payload_bytes=result["transfer"]["payload_bytes"], text=digest_of(result["tokens"]))
                    if digest_of(result["tokens"]) != texts[name] or result["recoveries"]:
                        faults.append(f"halves: '{name}' gave another text, or lost its node")
    for name, values in totals.items():
        print(f"halves: {name:<18} total {statistics.median(values):.3f} s", flush=True)
    # Two threads split a product otherwise than one, which may change last bits: that row need not agree.
    if len({text for name, text in texts.items() if name != "both cores as one"}) != 1:
        faults.append(f"halves: the texts differ: {texts}")
    return faults


# How 'baton demo' ends when its figures are invalid; they are printed all the same, and say so.
DEMO_INVALID = 7


def demo_bench(options):
    """The demo's table, several times over, as rows of a CSV file."""
    table, totals = Table("handoff-demo", options.results), {}
    for number in range(options.rounds(3)):
        demo = json_of([BATON, "demo", "--json"], statuses=(0, DEMO_INVALID))
        for row in demo["rows"]:
            # What the planner predicts is no measurement.
            rounded = {key: value if key == "name" else round(value, 4) for key, value in row.items()
                       if key != "predicted_s"}
            table.add(round=number, valid=demo["valid"], **rounded, overlap=round(demo["overlap"], 5),
                      identical=demo["identical"])
            totals.setdefault(row["name"], []).append(row["total_s"])
        for reason in demo["invalid_because"]:
            print(f"demo {number}: INVALID: {reason}", flush=True)
    for name, values in totals.items():
        print(f"demo: {name:<14} total {statistics.median(values):.3f} s")
    return []
