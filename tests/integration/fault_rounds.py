"""Rounds of faults under constant load, and what came of them."""

import random
import signal
import time

from fault_world import World

# Seconds.
BEFORE = (0.3, 1.5)  # a fault comes so long after the machines are whole again
FROZEN = (0.5, 4.0)
APART = (1.0, 5.0)
SLOWED = (2.0, 4.0)
SLOW_MBIT = 2
DOWN = (0.2, 2.0)
BACK_S = 40  # by when all machines must see each other again


def kill(world, chance):
    """Killed, and started again."""
    number = chance.randrange(world.count)
    world.kill(number)
    time.sleep(chance.uniform(*DOWN))
    world.start(number)
    return f"n{number} killed"


def end(world, chance):
    """Told to end: it says goodbye."""
    number = chance.randrange(world.count)
    world.kill(number, signal.SIGTERM)
    time.sleep(chance.uniform(*DOWN))
    world.start(number)
    return f"n{number} ended"


def freeze(world, chance):
    number, seconds = chance.randrange(world.count), chance.uniform(*FROZEN)
    world.freeze(number, seconds)
    return f"n{number} frozen for {seconds:.1f} s"


def cut(world, chance):
    number, seconds = chance.randrange(world.count), chance.uniform(*APART)
    world.network.cut(number)
    time.sleep(seconds)
    world.network.heal(number)
    return f"n{number} cut off for {seconds:.1f} s"


def blink(world, chance):
    """Shorter than anybody counts as lost."""
    number = chance.randrange(world.count)
    world.network.cut(number)
    time.sleep(0.3)
    world.network.heal(number)
    return f"n{number} cut off for 0.3 s"


def split(world, chance):
    """Two sides, each of which goes on."""
    numbers = list(range(world.count))
    chance.shuffle(numbers)
    side, seconds = numbers[:world.count // 2], chance.uniform(*APART)
    world.network.split(side)
    time.sleep(seconds)
    world.network.join(side)
    return f"{', '.join(f'n{number}' for number in sorted(side))} split off for {seconds:.1f} s"


def slow(world, chance):
    number, seconds = chance.randrange(world.count), chance.uniform(*SLOWED)
    world.network.slow(number, SLOW_MBIT)
    time.sleep(seconds)
    world.network.slow(number, None)
    return f"n{number} slowed to {SLOW_MBIT} Mbit/s for {seconds:.1f} s"


def two(world, chance):
    """One cut off while another is killed."""
    first, second = chance.sample(range(world.count), 2)
    world.network.cut(first)
    time.sleep(chance.uniform(*DOWN))
    world.kill(second)
    world.network.heal(first)
    world.start(second)
    return f"n{first} cut off, n{second} killed meanwhile"


FAULTS = [kill, freeze, cut, split, slow, end, blink, two]


class Outcome:
    """What a call of run_rounds() found."""

    def __init__(self):
        self.counts = {}
        self.largest = 0.0  # difference of a likelihood
        self.worst_gap = 0.0  # of the best two tokens where texts parted
        self.problems = []
        self.back_s = []
        self.shared = self.recovered = 0
        self.slowest_s = 0.0
        self.memory_mib = []  # of each round: the largest of the machines that have lived since the beginning
        self.bound = 0.0

    def add(self, counts):
        for name, count in counts.items():
            self.counts[name] = self.counts.get(name, 0) + count

    def good(self):
        bad = ("wrong", "failed", "hung")
        return not self.problems and not any(self.counts.get(name) for name in bad)


def run_rounds(machines, rounds, seed, mode, log):
    """The same seed does the same faults in the same order. `log` is told a line for each round."""
    outcome = Outcome()
    chance = random.Random(seed)
    with World(machines, seed, mode, log) as world:
        outcome.bound = world.bound
        world.begin_load()
        order = []
        for number in range(rounds):
            # Every fault comes once before one comes again.
            if not order:
                order = FAULTS[:]
                chance.shuffle(order)
            fault = order.pop()
            time.sleep(chance.uniform(*BEFORE))
            what = fault(world, chance)
            outcome.back_s.append(world.wait_until_all_meet(BACK_S))
            asked = sum(1 for _ in world.requests)
            if (number + 1) % 4 == 0 or number + 1 == rounds:
                close_books(world, outcome, number)
            # An answer that a machine dies with is not told.
            outcome.shared = sum(world.told(f": {shape}, prefill=") for shape in ("disaggregated", "joint", "relay", "pooled"))
            outcome.recovered = world.told("going on without it")
            log(f"{number + 1}/{rounds}: {what}; all back after {outcome.back_s[-1]:.1f} s, {asked} more requests, "
                f"{outcome.recovered} went on without a machine so far")
    return outcome


def close_books(world, outcome, number):
    """Everything that was asked is answered and compared, nothing is left behind, and the load begins anew."""
    left = world.wait_until_quiet()
    if left:
        outcome.problems.append(f"round {number + 1}: left behind: {left}")
    outcome.slowest_s = max([outcome.slowest_s, *(request.seconds for request in world.requests)])
    counts, largest, worst, problems = world.judge()
    outcome.add(counts)
    outcome.largest = max(outcome.largest, largest)
    outcome.worst_gap = max(outcome.worst_gap, worst)
    outcome.problems += problems
    outcome.memory_mib.append(max(world.memory_mib(machine) for machine in range(world.count)))
    world.paused.clear()
