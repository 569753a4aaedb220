"""From samples to the table: medians, spreads, ratios to the best peer of the same round."""

import statistics

# Above this share of its core taken by others, a number says more about the machine.
FOREIGN_WARN = 0.10
# A core less used than this left its proxy waiting for the load, and paying for sleep and wake.
BUSY_NOTE = 0.85


class Row:
    """One proxy in one scenario: its samples, or the reason why there are none."""

    def __init__(self, proxy):
        self.proxy = proxy
        self.samples = []
        self.unsupported = None
        self.failure = None

    @property
    def measured(self):
        """Whether the row has numbers that may be compared."""
        return bool(self.samples) and not (self.unsupported or self.failure)


def column(row, pick):
    """The values of one quantity, in the order of the rounds."""
    return [pick(sample) for sample in row.samples]


def best_peer(rows, pick, less_is_better):
    """The peer with the best median, gwproxy never being its own peer; None without peers."""
    peers = [row for row in rows if row.measured and row.proxy != "gwproxy"]
    if not peers:
        return None
    choose = min if less_is_better else max
    return choose(peers, key=lambda row: statistics.median(column(row, pick)))


def ratios(row, best, pick):
    """This row over the best peer, round by round: neighbours in time share their noise."""
    return [
        mine / other
        for mine, other in zip(column(row, pick), column(best, pick), strict=True)
        if other
    ]


def quantities(scenario):
    """(key, heading, how to read it off a sample, less is better, format)."""
    rate = "messages/s" if scenario.mode == "ws" else "requests/s"
    return [
        ("value", scenario.measure, scenario.value, scenario.less_is_better, "{:.2f}"),
        ("rps", rate, lambda s: s["requests"] / s["seconds"], False, "{:,.0f}"),
        ("p50_us", "p50 µs", lambda s: s["p50_us"], True, "{:,.0f}"),
        ("p99_us", "p99 µs", lambda s: s["p99_us"], True, "{:,.0f}"),
    ]


def summary(scenario, rows):
    """The scenario's results as plain data, as written to --json."""
    result = {}
    for row in rows:
        entry = result[row.proxy] = {"samples": row.samples}
        if row.unsupported:
            entry["unsupported"] = row.unsupported
        if row.failure:
            entry["failure"] = row.failure
        if not row.measured:
            continue
        for key, _, pick, less, _ in quantities(scenario):
            values = column(row, pick)
            median = statistics.median(values)
            entry[key] = {
                "median": median,
                "spread": (max(values) - min(values)) / median if median else 0.0,
            }
            best = best_peer(rows, pick, less)
            if best and (found := ratios(row, best, pick)):
                entry[key] |= {
                    "best_peer": best.proxy,
                    "ratio": statistics.median(found),
                    "ratio_min": min(found),
                    "ratio_max": max(found),
                }
        for share in ("busy", "foreign", "system_share"):
            entry[share] = statistics.median(column(row, lambda s, k=share: s[k]))
    return result


def table(name, scenario, rows, result):
    """The scenario as a Markdown table."""
    shapes = quantities(scenario)
    heads = ["proxy", shapes[0][1], "± spread", "ratio (min–max)"]
    heads += [f"{head} (ratio)" for _, head, *_ in shapes[1:]]
    heads += ["kernel", "core busy", "foreign"]
    better = "less" if scenario.less_is_better else "more"
    lines = [
        f"### {name}: {scenario.about}",
        f"{scenario.load.describe()}; judged by {scenario.measure}, {better} is better",
        "",
        "| " + " | ".join(heads) + " |",
        "|" + "---|" * len(heads),
    ]
    for row in rows:
        if not row.measured:
            reason = f"FAILED: {row.failure}" if row.failure else row.unsupported
            reason = reason.replace("|", "\\|").replace("\n", " ")
            lines.append(f"| {row.proxy} | {reason} |" + " |" * (len(heads) - 2))
            continue
        lines.append("| " + " | ".join(cells(row, result[row.proxy], shapes)) + " |")
    lines += [""] + notes(rows, result)
    return "\n".join(lines)


def cells(row, entry, shapes):
    """One line of the table."""
    key, _, _, _, shape = shapes[0]
    first = entry[key]
    line = [row.proxy, shape.format(first["median"]), f"{first['spread']:.0%}"]
    if "ratio" in first:
        span = f"{first['ratio_min']:.2f}–{first['ratio_max']:.2f}"
        line.append(f"**{first['ratio']:.2f}** ({span})")
    else:
        line.append("no peer")
    for key, _, _, _, shape in shapes[1:]:
        ratio = f" ({entry[key]['ratio']:.2f})" if "ratio" in entry[key] else ""
        line.append(shape.format(entry[key]["median"]) + ratio)
    return line + [f"{entry[share]:.0%}" for share in ("system_share", "busy", "foreign")]


def notes(rows, result):
    """What a reader must know before believing the numbers above."""
    lines = []
    for row in rows:
        if not row.measured:
            continue
        entry = result[row.proxy]
        worst = max(column(row, lambda s: s["foreign"]))
        if worst > FOREIGN_WARN:
            lines.append(f"- noisy: others took up to {worst:.0%} of {row.proxy}'s core")
        if entry["busy"] + entry["foreign"] < BUSY_NOTE:
            lines.append(
                f"- {row.proxy} used {entry['busy']:.0%} of its core: the load side was the limit"
            )
    return lines + [""] if lines else lines


def exceeded(required, results):
    """The sentences of the ratios that are worse than required, or that are missing."""
    complaints = []
    for name, limit in required.items():
        entry = results.get(name, {}).get("gwproxy", {}).get("value", {})
        ratio = entry.get("ratio")
        if ratio is None:
            complaints.append(f"{name}: no ratio measured, {limit} required")
            continue
        less = results[name]["less_is_better"]
        if ratio > limit if less else ratio < limit:
            bound = "at most" if less else "at least"
            complaints.append(f"{name}: ratio {ratio:.2f}, {bound} {limit} required")
    return complaints
