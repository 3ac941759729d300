"""What is measured. Each function fills `bench.rows[measure][rival]` with samples; the report makes medians of them.

Rounds are interleaved: A B C … A B C …, so that a busy moment of the machine hits everybody. A sample counts only when all
services started; what could not be measured is said by name.
"""

import json
import os
import shutil
import subprocess
import time

from rivals import Service
from stage import Run, spent, usage

MS = 1e6


def flat(bench, n, words=(), **more):
    def services(events):
        return [Service(f"s{i}", [bench.helper, "svc", events, f"s{i}", *words], **more) for i in range(n)]
    return services


# Whose samples take seconds, and lie so far from the rest that two of them are enough.
SLOW = ("process-compose, default", "supervisord", "runit", "foreman", "honcho", "circus", "horust", "mprocs", "overmind", "pitchfork")


def each(bench, rounds, wanted, sample, what, once=()):
    """Interleaved rounds; a rival that failed once is not asked again, and one of `once` is asked in the first only."""
    given_up = set()
    for round in range(rounds):
        for rival in bench.rivals:
            if rival.name in given_up or not wanted(rival) or bench.late():
                continue
            if rival.name in once and round:
                continue
            if rival.name in SLOW and (bench.brief or round >= 2):
                continue
            bench.noise.gate()
            try:
                why = sample(rival)
            except (OSError, subprocess.SubprocessError) as error:
                why = str(error)
            if why:
                given_up.add(rival.name)
                bench.skip(rival.name, what, why)


def spawn_and_stop(bench):
    """Launch → last service in main; TERM → supervisor and services gone."""
    plan = [(1, 5), (10, 5), (100, 5), (500, 3), (1000, 2)] if bench.full else [(1, 3), (100, 2), (500, 1)]
    for n, rounds in plan:
        def sample(rival):
            run = Run(bench, rival, flat(bench, n))
            try:
                if not run.wait_for("S", n, 30):
                    return f"{len(run.stamps('S'))} of {n} started: {run.said()}"
                bench.add(f"spawn {n}", rival, (run.stamps("S")[n - 1][0] - run.begun) / MS)
                # Whatever it still does about the start is over before it is asked to stop.
                time.sleep(0.3 + n / 1000)
                bench.add(f"start CPU {n}", rival, usage(run.supervisors())["cpu"] / MS)
                took = run.stop()
                if took is None:
                    return "was not gone 30 s after its stop signal"
                bench.add(f"stop {n}", rival, took / MS)
            finally:
                run.close()
        slow = bench.quick and n > 100
        # Merged is the same program as far as this goes, and 500 of a slow rival would take the whole budget.
        each(bench, rounds, lambda rival: not rival.variant and n <= rival.limit
             and not (slow and rival.name not in ("devrun", "ideal", "dinit"))
             and not (n == 10 and rival.name in SLOW and not bench.chosen), sample, f"spawn and stop of {n}")


def chain(bench):
    """Seven tiers, each ready 50 ms after main. Lost per edge: ready of the last dependency → main of the dependent."""
    tiers, delay = 7, 50
    for width in (1, 10):
        for kind in ("fd", "tcp", "http"):
            label = f"chain {tiers}×{width} {kind}"

            def services(events):
                made = []
                for tier in range(tiers):
                    for index in range(width):
                        number = tier * width + index
                        deps = [f"s{(tier - 1) * width + other}" for other in range(width)] if tier else []
                        where = 3 if kind == "fd" else bench.ports + number
                        words = ["fd=3"] if kind == "fd" else [f"port={where}"]
                        made.append(Service(f"s{number}", [bench.helper, "svc", events, f"s{number}", f"delay={delay}", *words], deps, (kind, where)))
                return made

            def sample(rival):
                run = Run(bench, rival, services)
                try:
                    if not run.wait_for("S", tiers * width, 40):
                        return f"{len(run.stamps('S'))} of {tiers * width} started: {run.said()}"
                    run.wait_for("R", tiers * width, 5)
                    ready = {name: at for at, name, _ in run.stamps("R")}
                    begun = {name: at for at, name, _ in run.stamps("S")}
                    for tier in range(1, tiers):
                        names = [f"s{tier * width + index}" for index in range(width)]
                        before = max(ready[f"s{(tier - 1) * width + index}"] for index in range(width))
                        first = min(begun[name] for name in names)
                        if first < before:
                            return "a dependent started before its dependency was ready"
                        bench.add(f"{label}: edge", rival, (first - before) / MS)
                    bench.add(f"{label}: total", rival, (max(ready.values()) - run.begun) / MS)
                    run.stop(10)
                finally:
                    run.close()
            # Whole seconds an edge: whatever the machine does, they say the same every time.
            slow = ("process-compose", "horust")
            rounds = 3
            each(bench, rounds, lambda rival: not rival.variant and kind in rival.readiness
                 and not (bench.quick and (rival.name in slow or width > 1 and kind == "http")), sample, label, slow)


def pair(bench):
    """One service that listens after 50 ms, and its dependent: what an ordinary edge costs, at each one's own probe period too."""
    for kind in ("tcp", "http"):
        def services(events):
            return [Service("a", [bench.helper, "svc", events, "a", "delay=50", f"port={bench.ports}"], ready=(kind, bench.ports)),
                    Service("b", [bench.helper, "svc", events, "b"], ["a"])]

        def sample(rival):
            run = Run(bench, rival, services)
            try:
                if not run.wait_for("S", 2, 30):
                    return f"{len(run.stamps('S'))} of 2 started: {run.said()}"
                begun = {name: at for at, name, _ in run.stamps("S")}
                ready = {name: at for at, name, _ in run.stamps("R")}
                if begun["b"] < ready["a"]:
                    return "the dependent started before its dependency was ready"
                bench.add(f"pair {kind}", rival, (begun["b"] - ready["a"]) / MS)
                run.stop(10)
            finally:
                run.close()
        each(bench, 5 if bench.full else 3, lambda rival: rival.name not in ("devrun, merged", "ideal") and kind in rival.readiness
             and not (bench.quick and rival.name.startswith("process-compose")), sample, f"pair {kind}")


def staggered(bench):
    """Ten pairs, b waits for a, and each a is ready at another moment: nobody may wait for anybody else's dependency."""
    def services(events):
        made = []
        for index in range(10):
            made.append(Service(f"a{index}", [bench.helper, "svc", events, f"a{index}", f"delay={200 + index * 97}", f"port={bench.ports + index}"],
                                ready=("tcp", bench.ports + index)))
            made.append(Service(f"b{index}", [bench.helper, "svc", events, f"b{index}"], [f"a{index}"]))
        return made

    def sample(rival):
        run = Run(bench, rival, services)
        try:
            if not run.wait_for("S", 20, 30):
                return f"{len(run.stamps('S'))} of 20 started: {run.said()}"
            ready = {name: at for at, name, _ in run.stamps("R")}
            for at, name, _ in run.stamps("S"):
                if name[0] == "b":
                    bench.add("ten staggered pairs", rival, (at - ready["a" + name[1:]]) / MS)
            run.stop(10)
        finally:
            run.close()
    each(bench, 3 if bench.full else 2, lambda rival: not rival.variant and rival.name != "ideal" and "tcp" in rival.readiness
         and not (bench.quick and rival.name == "process-compose"), sample, "ten staggered pairs")


def grace(bench):
    """A service that ignores TERM, a grace of 1 s: how late is the KILL?"""
    def sample(rival):
        run = Run(bench, rival, flat(bench, 1, ("ignore=1",), grace=1.0))
        try:
            if not run.wait_for("R", 1, 20):
                return f"did not start: {run.said()}"
            time.sleep(0.3)
            pid = run.stamps("S")[0][2]
            fd = os.pidfd_open(pid)
            begun = time.monotonic_ns()
            os.kill(run.pid, run.rival.stop_signal)
            import select
            if not select.select([fd], [], [], 15)[0]:
                os.close(fd)
                return "had not killed it 15 s after the stop signal"
            ended = time.monotonic_ns()
            os.close(fd)
            asked = run.stamps("T")
            bench.add("KILL late", rival, (ended - begun) / MS - 1000)
            if asked:
                bench.add("TERM after", rival, (asked[0][0] - begun) / MS)
        finally:
            run.close()
    each(bench, 3 if bench.full else 2, lambda rival: rival.graced and not rival.variant, sample, "stop of one that ignores TERM")


def restart(bench):
    """A service that was up for 1.2 s ends with 1: how long until its successor is in main?"""
    seconds = 6 if bench.full else 4
    bench.noise.gate()
    runs = []
    for rival in bench.rivals:
        if rival.restarts and not rival.variant and not (bench.brief and rival.name in SLOW):
            runs.append(Run(bench, rival, flat(bench, 1, ("life=1200",), restart=True)))
    keep = [run.pid for run in runs]
    time.sleep(seconds)
    for run in runs:
        ends, starts = run.stamps("X"), run.stamps("S")
        for at, _, _ in ends:
            after = [start for start, _, _ in starts if start > at]
            if after:
                bench.add("crash → restart", run.rival, (after[0] - at) / MS)
        if len(starts) < 2:
            bench.skip(run.rival.name, "crash → restart", f"no restart within {seconds} s")
    for run in runs:
        run.stop(0)
    time.sleep(0.3)
    for run in runs:
        run.close(keep)
        keep.remove(run.pid)


def logs(bench):
    """Lines through the supervisor, every byte read back. MiB/s of payload, CPU seconds of the supervisor's side per GiB."""
    cases = [("1 × 100 B", 1, 100), ("10 × 100 B", 10, 100), ("1 × 1 MB", 1, 1_000_000)]
    fast, slow = (1 << 30, 16 << 20) if bench.full else (256 << 20, 6 << 20)
    sizes = {"devrun": fast, "dinit": fast, "supervisord": fast // 2, "devrun, merged": fast // 2, "horust": fast}
    for label, writers, length in cases:
        if bench.quick and label != "1 × 100 B":
            continue

        def sample(rival):
            size = sizes.get(rival.name, slow)
            def services(events):
                return [Service(f"w{i}", [bench.helper, "spew", f"w{i}", str(size // writers), str(length)]) for i in range(writers)]
            output = os.path.join(bench.shm, f"merged.{os.getpid()}")
            cpu = 0
            run = Run(bench, rival, services, output if rival.captures == "merged" else None)
            try:
                if not run.wait_for("E", writers, 60):
                    return f"{len(run.stamps('E'))} of {writers} wrote everything within 60 s: {run.said()}"
                cpu = usage(run.supervisors())["cpu"] if not run.gone(0) else None
                files = [output] if rival.captures == "merged" else rival.log_files(run.work, run.services)
                written = settle(files)
                cpu = usage(run.supervisors())["cpu"] if not run.gone(0) else cpu
                begun, ended = run.stamps("B")[0][0], max(run.stamps("E")[-1][0], written)
                run.stop(15)
                names = ",".join(service.name for service in run.services)
                found = json.loads(subprocess.run([bench.helper, "check", names, *files], capture_output=True, text=True, check=True).stdout)
                wanted = (size // writers // length) * writers
                lost = wanted - found["lines"]
                bench.add(f"logs {label}", rival, wanted * length / (1 << 20) / ((ended - begun) / 1e9))
                if cpu is not None:
                    bench.add(f"logs {label}: CPU s/GiB", rival, cpu / 1e9 / (wanted * length / (1 << 30)))
                bench.add(f"logs {label}: lost or torn", rival, max(lost, found["torn"], found["missing"]) + found["reordered"])
            finally:
                run.close()
                if os.path.exists(output):
                    os.remove(output)
        each(bench, 2 if bench.full else 1, lambda rival: rival.captures and not (bench.brief and rival.name == "process-compose") and not (bench.quick and rival.name in ("honcho", "foreman")), sample, f"logs {label}")


def settle(files):
    """The moment (monotonic nanoseconds) after which the files no longer grew."""
    size, at, end = -1, time.monotonic_ns(), time.monotonic() + 30
    quiet = 0
    while quiet < 15 and time.monotonic() < end:
        now = sum(os.path.getsize(path) for path in files if os.path.exists(path))
        if now == size:
            quiet += 1
        else:
            size, at, quiet = now, time.monotonic_ns(), 0
        time.sleep(0.02)
    # The look is 20 ms late at most; what was there at the first look was there before it.
    return at - 20_000_000


def idle(bench):
    """N idle services: CPU, context switches and memory of the supervisor's side. All rivals of one N at once, and beside the
    hundred a hundred with a TCP probe every 10 s."""
    for n in (10, 100, 500, 1000) if bench.full else (100,):
        # The thousand are there for the growth of memory; half a minute of silence is asked of fewer.
        seconds = 30 if bench.full and n <= 500 else 10
        runs = []
        for rival in bench.rivals:
            if rival.variant or n > rival.limit or (bench.quick and rival.name not in ("devrun", "ideal", "dinit", "process-compose", "hivemind")):
                continue
            run = Run(bench, rival, flat(bench, n))
            if run.wait_for("S", n, 40):
                runs.append(run)
            else:
                bench.skip(rival.name, f"idle with {n}", f"{len(run.stamps('S'))} of {n} started")
                run.close([other.pid for other in runs])
        probed = probing(bench) if n == 100 else None
        if probed:
            runs.append(probed)
        # Threads that did work while it started end when they have been idle for a while (ours: ten seconds).
        time.sleep(13)
        pids = [run.supervisors() for run in runs]
        before = [usage(found) for found in pids]
        begun = time.monotonic()
        time.sleep(seconds)
        wall = time.monotonic() - begun
        for run, found, first in zip(runs, pids, before):
            last = usage(found)
            cpu, switches = spent(first, last)
            if run is probed:
                bench.add("100 TCP probes every 10 s: CPU ms/s", bench.devrun, cpu / MS / wall)
                bench.add("100 TCP probes every 10 s: switches/s", bench.devrun, switches / wall)
                continue
            bench.add(f"idle {n}: CPU ms/s", run.rival, cpu / MS / wall)
            bench.add(f"idle {n}: switches", run.rival, switches)
            bench.add(f"idle {n}: anonymous MiB", run.rival, last["own"] / (1 << 20))
            bench.add(f"idle {n}: PSS MiB", run.rival, last["pss"] / (1 << 20))
            bench.add(f"idle {n}: RSS MiB", run.rival, last["rss"] / (1 << 20))
        for run in runs:
            if not run.rival.stop_command(run.work):
                os.kill(run.pid, run.rival.stop_signal)
        time.sleep(1)
        for index, run in enumerate(runs):
            run.close([other.pid for other in runs[index + 1:]])


def probing(bench):
    """A hundred services with a TCP probe every 10 s. A copy of the program runs them: two of one file share its pages, and
    the memory of the one without probes would look smaller."""
    path = f"{bench.shm}/devrun"
    shutil.copy(bench.devrun.path, path)
    rival = type(bench.devrun)(bench.devrun.folder, path)
    rival.interval = "10s"

    def services(events):
        return [Service(f"s{i}", [bench.helper, "svc", events, f"s{i}", f"port={bench.ports + i}"], ready=("tcp", bench.ports + i)) for i in range(100)]
    run = Run(bench, rival, services)
    if run.wait_for("R", 100, 30):
        return run
    bench.skip(rival.name, "100 probes", run.said())
    run.close()
    return None


def command_latency(bench):
    """Status of a stack of 100, beside a program that does nothing started the same way."""
    n, looks = 100, 9 if bench.full else 5
    def time_of(words, where, environment):
        begun = time.monotonic_ns()
        pid = os.posix_spawn(words[0], words, environment, file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0), (os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0), (os.POSIX_SPAWN_OPEN, 2, "/dev/null", os.O_WRONLY, 0)])
        _, status = os.waitpid(pid, 0)
        return (time.monotonic_ns() - begun) / MS, status
    ideal = bench.ideal
    for rival in bench.rivals:
        if rival.variant or rival.limit < n or not rival.status_command("/") or (bench.quick and rival.name not in ("devrun", "dinit")):
            continue
        run = Run(bench, rival, flat(bench, n, ("say=1",)))
        environment = dict(PATH=os.environ["PATH"], HOME=f"{run.work}/home")
        environment.update(rival.environment(run.work))
        try:
            if not run.wait_for("S", n, 30):
                bench.skip(rival.name, "status of 100", "not all started")
                continue
            time.sleep(1)
            words = [("status of 100", rival.status_command(run.work))]
            if rival.name == "devrun":
                base = [rival.path, "-C", run.work]
                words += [("logs -n 100", base + ["logs", "-n", "100"]), ("wait, ready already", base + ["wait", "s7"]), ("ps --json", base + ["ps", "--json"])]
            here = os.getcwd()
            os.chdir(run.work)
            try:
                for label, argv in words:
                    for _ in range(looks):
                        took, status = time_of(argv, run.work, environment)
                        if status != 0 and rival.name != "runit":
                            bench.skip(rival.name, label, f"ended with {os.waitstatus_to_exitcode(status)}")
                            break
                        bench.add(label, rival, took)
                        bench.add(label, ideal, time_of([bench.helper, "true"], run.work, environment)[0])
            finally:
                os.chdir(here)
            run.stop(20)
        finally:
            run.close()


def limits(bench):
    """The kernel's own."""
    for _ in range(3 if bench.full else 1):
        bench.noise.gate()
        found = json.loads(subprocess.run([bench.helper, "limits", bench.shm], capture_output=True, text=True, check=True).stdout)
        for key, value in found.items():
            bench.limits.setdefault(key, []).append(value)


def postgres(bench):
    """Postgres as tier 0: may its dependent start when the first client is served, and never before? The moments are what
    Postgres itself writes, with milliseconds that it rounds down: `ready to accept connections`, and the end of the first
    `SELECT 1` after it."""
    import datetime
    import glob
    if not glob.glob("/usr/lib/postgresql/*/bin/postgres") and not shutil.which("postgres"):
        return bench.skip("devrun", "Postgres' dependent", "no postgres installed")
    rival = bench.devrun

    class WithPostgres(type(rival)):
        def prepare(self, work, services):
            argv = super().prepare(work, services)
            with open(f"{work}/procfile.toml", "a") as file:
                file.write('depends_on = ["db"]\n[services.db]\nuse = "postgres"\nport = "auto"\nset = { log_line_prefix = "%m [%p] ", log_timezone = "UTC", log_min_duration_statement = "0" }\n')
            return argv

        def environment(self, work):
            # One folder of first boots for all rounds, so that it is a warm start that is measured.
            return {**super().environment(work), "HOME": f"{bench.shm}/pghome"}

    os.makedirs(f"{bench.shm}/pghome", exist_ok=True)
    special = WithPostgres(rival.folder, rival.path)
    for _ in range(5 if bench.full else 2):
        bench.noise.gate()
        run = Run(bench, special, flat(bench, 1))
        try:
            if not run.wait_for("S", 1, 60):
                return bench.skip("devrun", "Postgres' dependent", run.said())
            now, wall = time.monotonic_ns(), time.time()
            started = run.stamps("S")[0][0]
            text = ""
            for path in glob.glob(f"{run.work}/.devrun/logs/db*.log"):
                with open(path, errors="replace") as file:
                    text += file.read()
            since = text.rfind("ready to accept connections")
            if since < 0:
                return bench.skip("devrun", "Postgres' dependent", "its log does not say when it was ready")
            lines = text[text.rfind("\n", 0, since) + 1:].splitlines()
            asked = [line for line in lines if "duration:" in line and "SELECT 1" in line]
            if not asked:
                return bench.skip("devrun", "Postgres' dependent", "its log does not hold a SELECT 1")

            def late(line):
                stamp = " ".join(line.split()[:2])
                at = datetime.datetime.strptime(stamp, "%Y-%m-%d %H:%M:%S.%f").replace(tzinfo=datetime.timezone.utc).timestamp()
                return (wall - (now - started) / 1e9 - at) * 1000
            bench.add("Postgres ready → dependent", rival, late(lines[0]))
            bench.add("Postgres SELECT 1 → dependent", rival, late(asked[0]))
            bench.add("Postgres ready → dependent: launch to dependent", rival, (started - run.begun) / MS)
            run.stop(30)
        finally:
            run.close()


def real_stack(bench):
    """The demo: first boots; warm, against four servers started by a shell script at once."""
    if bench.quick:
        return
    done = subprocess.run([os.path.join(bench.root, "scripts/demo-ratio"), "5" if bench.full else "3"], capture_output=True, text=True,
                          timeout=900, env={**os.environ, "DEVRUN": bench.devrun.path})
    lines = done.stdout.splitlines()
    if done.returncode or not lines or "ratio" not in lines[-1]:
        return bench.skip("devrun", "demo against a shell script", (done.stderr or done.stdout)[-200:])
    for line in lines:
        if line.startswith("first boot"):
            label, took = line.rsplit(": ", 1)
            bench.add(f"demo, {label}", bench.devrun, float(took.split()[0]))
    words = lines[-1].replace(",", "").split()
    bench.add("demo, warm", bench.devrun, float(words[words.index("devrun") + 1]))
    bench.add("demo, warm: by hand", bench.devrun, float(words[words.index("hand") + 1]))
    bench.add("demo, warm: ratio", bench.devrun, float(words[words.index("ratio") + 1]))


# The longest last: what the time for the whole run does not hold is left out, and named.
MEASURES = [limits, spawn_and_stop, chain, pair, staggered, grace, restart, command_latency, postgres, idle, logs, real_stack]
