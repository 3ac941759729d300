"""Medians, ratios, the bars, and the three ways they are shown: text, JSON, SVG."""

import datetime
import json
import os
import platform
import statistics
import subprocess

BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"

# Rows of the table: the measure, its unit, how it is named.
ROWS = (
    [(f"spawn {n}", "ms", f"start {n} services: launch → last one in `main()`") for n in (1, 10, 100, 500, 1000)]
    + [(f"start CPU {n}", "ms", f"CPU of the supervisor for starting {n}") for n in (100, 500, 1000)]
    + [(f"chain 7×{w} {kind}: {what}", "ms", f"7 tiers × {w}, ready by {kind}: {text}")
       for w in (1, 10) for kind in ("fd", "tcp", "http") for what, text in (("edge", "ready → dependent"), ("total", "whole chain"))]
    + [(f"pair {kind}", "ms", f"one that listens after 50 ms and its dependent, by {kind}: ready → dependent") for kind in ("tcp", "http")]
    + [("ten staggered pairs", "ms", "10 staggered pairs (TCP): ready → dependent")]
    + [(f"stop {n}", "ms", f"stop {n} services") for n in (1, 10, 100, 500, 1000)]
    + [("TERM after", "ms", "stop signal reaches the service after"), ("KILL late", "ms", "KILL after a grace of 1 s is late by"),
       ("crash → restart", "ms", "crash after 1.2 s → successor in `main()`")]
    + [(f"logs {c}{what}", unit, f"logs, {c} lines{text}") for c in ("1 × 100 B", "10 × 100 B", "1 × 1 MB")
       for what, unit, text in (("", "MiB/s", ""), (": CPU s/GiB", "s", ": CPU s/GiB"), (": lost or torn", "lines", ": lost or torn"))]
    + [(f"idle {n}: {what}", unit, f"idle with {n} services: {what}") for n in (10, 100, 500, 1000)
       for what, unit in (("CPU ms/s", "ms/s"), ("switches", "in the whole window"), ("PSS MiB", "MiB"), ("anonymous MiB", "MiB"), ("RSS MiB", "MiB"))]
    + [("100 TCP probes every 10 s: CPU ms/s", "ms/s", "100 TCP probes every 10 s: CPU ms/s"),
       ("100 TCP probes every 10 s: switches/s", "/s", "100 TCP probes every 10 s: context switches a second"),
       ("status of 100", "ms", "status of 100 services (ideal: a program that does nothing)"), ("ps --json", "ms", "`ps --json` of 100"),
       ("logs -n 100", "ms", "`logs -n 100`"), ("wait, ready already", "ms", "`wait` for one that is ready"),
       ("Postgres SELECT 1 → dependent", "ms", "Postgres has answered the first `SELECT 1` → dependent in `main()`"),
       ("Postgres ready → dependent", "ms", "Postgres says ready, before any login → dependent in `main()`"),
       ("demo, first boot, cold", "ms", "Postgres, Redis, API, frontend; first boot with nothing at hand"),
       ("demo, first boot, from the cache", "ms", "the same, data directories made from an earlier first boot"),
       ("demo, warm", "ms", "Postgres, Redis, API, frontend; warm"), ("demo, warm: by hand", "ms", "the same by a shell script, all at once"),
       ("demo, warm: ratio", "×", "ratio of the two")]
)


def median(values):
    return statistics.median(values) if values else None


def middle(result, row, rival="devrun"):
    cell = result["rows"].get(row, {}).get(rival)
    return cell["median"] if cell else None


def collect(bench):
    rows = {}
    for row, cells in bench.rows.items():
        rows[row] = {}
        for rival, values in cells.items():
            ordered = sorted(values)
            rows[row][rival] = {"median": median(values), "min": ordered[0], "max": ordered[-1], "n": len(values),
                                "p99": ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]}
    result = {
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "seconds": 0, "quick": bench.quick,
        "machine": machine(),
        "noise": {"samples": bench.noise.samples, "noisy": bench.noise.noisy},
        "versions": {rival.name: rival.version() for rival in bench.rivals if rival.name != "ideal" and not rival.variant},
        "configured": {rival.name: rival.configured for rival in bench.rivals if rival.name != "devrun, merged"},
        "limits": {key: median(values) for key, values in bench.limits.items()},
        "rows": rows,
        "skipped": bench.skipped,
    }
    result["bars"] = bars(result)
    import time
    result["seconds"] = round(time.monotonic() - bench.began)
    return result


def machine():
    cpu = next((line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), platform.machine())
    memory = int(next(line.split()[1] for line in open("/proc/meminfo") if line.startswith("MemTotal"))) >> 20
    return f"{os.cpu_count()} cores ({cpu}), {memory} GiB, Linux {platform.release()}, {'root' if os.getuid() == 0 else 'an ordinary user'}"


def bars(result):
    """The targets: what was asked, what was measured, met or not."""
    found = []

    def bar(name, what, value, limit, unit="", least=False):
        if value is not None:
            met = value >= limit if least else value <= limit
            found.append({"name": name, "what": what, "value": value, "limit": limit, "unit": unit, "least": least, "met": met})

    def ratio(row, of, rival="ideal"):
        mine, other = middle(result, row), middle(result, of, rival)
        return mine / other if mine is not None and other else None

    def cell(row, key):
        return result["rows"].get(row, {}).get("devrun", {}).get(key)

    for width in (1, 10):
        for kind in ("tcp", "http"):
            bar("P1", f"7 × {width} over {kind}, against the descriptor ideal", ratio(f"chain 7×{width} {kind}: total", f"chain 7×{width} fd: total"), 1.05, "×")
    for kind in ("tcp", "http"):
        bar("P2", f"ready → dependent over {kind}, median", middle(result, f"chain 7×1 {kind}: edge"), 3, "ms")
        bar("P2", f"ready → dependent over {kind}, p99", cell(f"chain 7×1 {kind}: edge", "p99"), 10, "ms")
    bar("P3", "ten staggered pairs, median", middle(result, "ten staggered pairs"), 3, "ms")
    bar("P3", "ten staggered pairs, p99", cell("ten staggered pairs", "p99"), 10, "ms")
    for n, limit in ((100, 1.3), (500, 1.3), (1000, 1.5)):
        bar("P4", f"start of {n}, against a posix_spawn loop", ratio(f"spawn {n}", f"spawn {n}"), limit, "×")
    bar("P5", "cold start of one", middle(result, "spawn 1"), 6, "ms")
    bar("P6", "stop of 100, against the ideal", ratio("stop 100", "stop 100"), 1.5, "×")
    bar("P7", "KILL late by", middle(result, "KILL late"), 2, "ms")
    bar("P8", "restart of a stable service", middle(result, "crash → restart"), 2, "ms")
    bar("P9", "context switches, 100 idle services", middle(result, "idle 100: switches"), 0)
    bar("P9", "CPU, 100 idle services", middle(result, "idle 100: CPU ms/s"), 0, "ms/s")
    bar("P10", "CPU with 100 TCP probes every 10 s", middle(result, "100 TCP probes every 10 s: CPU ms/s"), 0.5, "ms/s")
    # Pages of the program file are the page cache's, whatever maps them.
    bar("P11", "anonymous memory with 100 services", middle(result, "idle 100: anonymous MiB"), 5, "MiB")
    bar("P11", "anonymous memory with 500 services", middle(result, "idle 500: anonymous MiB"), 16, "MiB")
    for what, row in (("CPU of the start", "start CPU {}"), ("stop", "stop {}"), ("anonymous memory", "idle {}: anonymous MiB")):
        few, many = middle(result, row.format(100)), middle(result, row.format(1000))
        # Ten times as many; a little more than ten times is the logarithm of a sorted map.
        bar("growth", f"{what}, 1000 services against 100", many / few if few and many else None, 12, "×")
    pipe = result["limits"].get("pipe_mib_s")
    mine = middle(result, "logs 1 × 100 B")
    bar("P12", "logs to files, share of the pipe's limit", mine / pipe if mine and pipe else None, 0.5, "×", least=True)
    bar("P12", "CPU of logs to files", middle(result, "logs 1 × 100 B: CPU s/GiB"), 0.7, "s/GiB")
    for case in ("1 × 100 B", "10 × 100 B", "1 × 1 MB"):
        bar("P12", f"lines lost or torn, {case}", cell(f"logs {case}: lost or torn", "max"), 0)
    merged = result["rows"].get("logs 1 × 100 B", {}).get("devrun, merged")
    bar("P13", "merged view", merged["median"] if merged else None, 400, "MiB/s", least=True)
    merged = result["rows"].get("logs 1 × 100 B: CPU s/GiB", {}).get("devrun, merged")
    bar("P13", "CPU of the merged view", merged["median"] if merged else None, 2.5, "s/GiB")
    bar("P14", "`ps` of 100, against a program that does nothing", ratio("status of 100", "status of 100"), 4, "×")
    bar("P15", "dependent after the first `SELECT 1` that Postgres answered", middle(result, "Postgres SELECT 1 → dependent"), 5, "ms")
    # Postgres stamps whole milliseconds, cut off: the moment itself lies up to 1 ms after its stamp.
    bar("P15", "and never before it (least)", cell("Postgres SELECT 1 → dependent", "min"), 0, "ms", least=True)
    bar("demo", "warm, against a shell script that starts all at once", middle(result, "demo, warm: ratio"), 1.10, "×")
    return found


def number(value):
    if value is None:
        return "–"
    if abs(value) >= 100 or value == int(value):
        return f"{value:.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def columns(result):
    order = ["ideal", "devrun", "devrun, merged", "dinit", "process-compose", "process-compose, default", "pitchfork", "hivemind", "goreman", "overmind", "supervisord", "s6", "runit",
             "foreman", "honcho", "circus", "horust", "mprocs"]
    present = {rival for cells in result["rows"].values() for rival in cells}
    return [name for name in order if name in present]


def table(result):
    names = columns(result)
    lines = [["", *names]]
    for row, unit, title in ROWS:
        cells = result["rows"].get(row)
        if not cells:
            continue
        lines.append([f"{title} ({unit})", *(number(cells[name]["median"]) if name in cells else "" for name in names)])
    return lines


def text(result):
    lines = [f"{result['date']}; {result['machine']}; {result['seconds']} s; {result['noise']['noisy']} of {result['noise']['samples']} samples began while other work ran"]
    grid = table(result)
    widths = [max(len(row[index]) for row in grid) for index in range(len(grid[0]))]
    lines += ["  ".join(cell.ljust(width) if index == 0 else cell.rjust(width) for index, (cell, width) in enumerate(zip(row, widths))) for row in grid]
    lines.append("limits: " + ", ".join(f"{key} {number(value)}" for key, value in result["limits"].items()))
    for bar in result["bars"]:
        lines.append(f"{'met   ' if bar['met'] else 'MISSED'} {bar['name']:4} {bar['what']}: {number(bar['value'])} {bar['unit']} (at {'least' if bar['least'] else 'most'} {number(bar['limit'])})")
    lines += [f"skipped: {rival}, {what}: {why}" for rival, what, why in result["skipped"]]
    return "\n".join(lines)


def save_json(result, path):
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    with open(path, "w") as file:
        json.dump(result, file, indent=1, ensure_ascii=False)
        file.write("\n")


def markdown(result):
    out = [f"Measured {result['date']} on {result['machine']}; the whole run took {result['seconds'] // 60} min {result['seconds'] % 60} s"
           f"{' (--quick)' if result['quick'] else ''}. {result['noise']['noisy']} of {result['noise']['samples']} samples began while something else had the machine busy.",
           "", "![devrun and the others](performance.svg)", "", "Versions: " + ", ".join(f"{name} {version}" for name, version in result["versions"].items()) + ".", "",
           "### Bars", "", "| | bar | measured | asked | |", "|---|---|---|---|---|"]
    for bar in result["bars"]:
        out.append(f"| {bar['name']} | {bar['what']} | {number(bar['value'])} {bar['unit']} | {'≥' if bar['least'] else '≤'} {number(bar['limit'])} | {'met' if bar['met'] else '**missed**'} |")
    out += ["", "### Table", "", "Medians. Empty: the program cannot do it, or was not asked at that size.", ""]
    grid = table(result)
    out.append("| " + " | ".join(grid[0]) + " |")
    out.append("|---|" + "---|" * (len(grid[0]) - 1))
    out += ["| " + " | ".join(row) + " |" for row in grid[1:]]
    out += ["", "Kernel: " + ", ".join(f"{key.replace('_', ' ')} {number(value)}" for key, value in result["limits"].items()) + ".", "",
            "### Spread of devrun's samples", "", "| | least | median | most | n |", "|---|---|---|---|---|"]
    for row, unit, title in ROWS:
        cell = result["rows"].get(row, {}).get("devrun")
        if cell and cell["n"] > 1:
            out.append(f"| {title} ({unit}) | {number(cell['min'])} | {number(cell['median'])} | {number(cell['max'])} | {cell['n']} |")
    out += ["", "### How each one was configured", "", "| | |", "|---|---|"]
    out += [f"| {name} | {words} |" for name, words in result["configured"].items()]
    if result["skipped"]:
        out += ["", "### Left out", ""] + [f"- {rival}, {what}: {why}" for rival, what, why in result["skipped"]]
    return "\n".join(out) + "\n"


def write_docs(result, docs):
    save_json(result, f"{docs}/performance.json")
    with open(f"{docs}/performance.svg", "w") as file:
        file.write(svg(result))
    path = f"{docs}/performance.md"
    with open(path) as file:
        page = file.read()
    before, rest = page.split(BEGIN, 1)
    _, after = rest.split(END, 1)
    with open(path, "w") as file:
        file.write(before + BEGIN + "\n" + markdown(result) + END + after)


PANELS = [
    ("spawn 100", "start 100 services", "ms", False),
    ("edge", "ready → dependent, TCP or descriptor", "ms", False),
    ("stop 100", "stop 100 services", "ms", False),
    ("crash → restart", "crash → restarted", "ms", False),
    ("idle 100: PSS MiB", "memory with 100 services", "MiB PSS", False),
    ("logs 1 × 100 B", "log lines through it (100 bytes)", "MiB/s, more is better", True),
]


def svg(result):
    """Six panels of bars on a logarithmic axis; ours in colour."""
    import math
    width, column, bar, gap = 1000, 490, 16, 5
    parts, y, row_height = [], 50, 0
    for index, (row, title, unit, more) in enumerate(PANELS):
        if row == "edge":
            cells = dict(result["rows"].get("chain 7×1 fd: edge", {}))
            for kind in ("http", "tcp"):
                cells.update(result["rows"].get(f"chain 7×1 {kind}: edge", {}))
            ideal = result["rows"].get("chain 7×1 fd: edge", {}).get("ideal")
            if ideal:
                cells["ideal"] = ideal
            alone = result["rows"].get("pair tcp", {})
            cells.update({name: cell for name, cell in alone.items() if name not in cells})
        else:
            cells = result["rows"].get(row, {})
        values = sorted(((cell["median"], name) for name, cell in cells.items() if cell["median"] and cell["median"] > 0), reverse=more)
        if not values:
            continue
        left = 10 + (index % 2) * column
        if index % 2 == 0:
            y += row_height
            row_height = 0
        parts.append(f'<text x="{left}" y="{y}" class="title">{title} <tspan class="unit">({unit})</tspan></text>')
        low = 10 ** math.floor(math.log10(min(value for value, _ in values)))
        high = max(value for value, _ in values)
        scale = (column - 240) / max(0.3, math.log10(high / low))
        at = y + 10
        for value, name in values:
            length = max(2, math.log10(value / low) * scale)
            kind = "ours" if name.startswith("devrun") else "ideal" if name == "ideal" else "rival"
            parts.append(f'<text x="{left + 152}" y="{at + 12}" class="name {kind}t">{name}</text>'
                         f'<rect x="{left + 158}" y="{at}" width="{length:.1f}" height="{bar}" class="{kind}"/>'
                         f'<text x="{left + 162 + length:.1f}" y="{at + 12}" class="value">{number(value)}</text>')
            at += bar + gap
        row_height = max(row_height, at - y + 30)
    height = y + row_height
    note = f"{result['date']} · {result['machine']} · logarithmic axes · scripts/bench"
    style = ("text{font-family:system-ui,sans-serif;fill:#222}.title{font-size:15px;font-weight:600}.unit{font-weight:400;fill:#666;font-size:12px}"
             ".name{font-size:12px;text-anchor:end}.value{font-size:11px;fill:#444}.note{font-size:11px;fill:#666}"
             ".ours{fill:#0b7a4b}.ourst{font-weight:700}.ideal{fill:#999}.rival{fill:#c9d2dc}")
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}"><style>{style}</style>'
            f'<rect width="{width}" height="{height}" fill="#fff"/><text x="10" y="22" class="note">{note}</text>' + "".join(parts) + "</svg>\n")
