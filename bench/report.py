"""Draws benchmark rows as one HTML page with SVG plots: no scripts, nothing to fetch."""

import html
import math

WIDTH, HEIGHT, MARGIN = 640, 320, 56
COLOURS = ["#1f6fb4", "#d1495b", "#2e8b57", "#8a5fbf", "#c77700", "#555555"]


def page(rows, passes):
    plain = [row for row in rows if row.get("bench") == "datapath" and row["inner_bytes"] == 64
             and row["checksums"] == "device"]
    parts = ["<!doctype html><meta charset=utf-8><title>Adit: cycles a packet</title>",
             "<style>body{font:15px sans-serif;max-width:720px;margin:2em auto}"
             "table{border-collapse:collapse}td,th{padding:2px 10px;text-align:right}"
             "tr:nth-child(even){background:#f3f3f3}</style>",
             "<h1>Cycles a packet</h1>"]
    parts += [plot("Against flows (64 bytes inside, 16 flows a tunnel)", "flows",
                   by_flows(plain))]
    parts += [plot("Against size (plain and encrypted, fewest flows)", "bytes inside",
                   by_size(rows))]
    if passes:
        parts += ["<h2>The express way, pass by pass</h2>", pass_table(passes)]
    parts += ["<h2>All rows</h2>", table(rows)]
    return "\n".join(parts) + "\n"


def by_flows(rows):
    """Lines of (flows, cycles): each direction and protection, and the bare work."""
    lines = {}
    for row in rows:
        if row["filtering"] != "endpoint-independent" or row["flows"] > row["tunnels"] * 16:
            continue
        if row["tunnels"] == row["flows"]:
            continue  # one flow a tunnel: another picture
        name = f"{row['direction']}, {row['protection']}"
        lines.setdefault(name, []).append((row["flows"], row["cycles_median"]))
        if row["yardstick_median"] is not None:
            bare = f"{row['direction']}, bare work"
            lines.setdefault(bare, []).append((row["flows"], row["yardstick_median"]))
    return lines


def by_size(rows):
    lines = {}
    for row in rows:
        if row.get("bench") != "datapath" or not isinstance(row["inner_bytes"], int):
            continue
        if row["flows"] > 1_100 or row["checksums"] != "device" or row["tunnels"] == row["flows"]:
            continue
        if row["filtering"] != "endpoint-independent":
            continue
        name = f"{row['direction']}, {row['protection']}"
        lines.setdefault(name, []).append((row["inner_bytes"], row["cycles_median"]))
    return lines


def plot(title, unit, lines):
    """An SVG with a logarithmic x axis."""
    points = [point for line in lines.values() for point in line]
    if not points:
        return ""
    low, high = min(x for x, _ in points), max(x for x, _ in points)
    top = max(y for _, y in points) * 1.1
    span = math.log(high / low) or 1

    def place(point):
        x, y = point
        across = math.log(x / low) / span if high > low else 0.5
        return (MARGIN + across * (WIDTH - 2 * MARGIN),
                HEIGHT - MARGIN - y / top * (HEIGHT - 2 * MARGIN))

    out = [f"<h2>{html.escape(title)}</h2>",
           f'<svg width="{WIDTH}" height="{HEIGHT + 20 * len(lines)}" font-size="12">']
    for step in range(5):
        y = HEIGHT - MARGIN - step / 4 * (HEIGHT - 2 * MARGIN)
        out.append(f'<line x1="{MARGIN}" x2="{WIDTH - MARGIN}" y1="{y}" y2="{y}" stroke="#ddd"/>'
                   f'<text x="{MARGIN - 6}" y="{y + 4}" text-anchor="end">'
                   f'{top * step / 4:.0f}</text>')
    for x in sorted({x for x, _ in points}):
        across, _ = place((x, 0))
        out.append(f'<text x="{across}" y="{HEIGHT - MARGIN + 18}" text-anchor="middle">'
                   f'{x:,}</text>')
    out.append(f'<text x="{WIDTH / 2}" y="{HEIGHT - 12}" text-anchor="middle">{unit}</text>')
    for number, (name, line) in enumerate(sorted(lines.items())):
        colour = COLOURS[number % len(COLOURS)]
        dash = ' stroke-dasharray="5 4"' if "bare" in name else ""
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in map(place, sorted(line)))
        out.append(f'<polyline points="{path}" fill="none" stroke="{colour}"{dash}/>')
        out += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>'
                for x, y in map(place, line)]
        out.append(f'<text x="{MARGIN}" y="{HEIGHT + 8 + 20 * number}" fill="{colour}">'
                   f'{html.escape(name)}</text>')
    return "\n".join(out) + "</svg>"


def pass_table(rows):
    cells = [["direction", "flows", "board", "open and seek", "depart"]]
    cells += [[row["direction"], f"{row['flows']:,}",
               *(f"{row['passes'][name]:.1f}" for name in ("board", "open", "depart"))]
              for row in rows]
    return as_table(cells)


def table(rows):
    keys = ["direction", "protection", "inner_bytes", "flows", "tunnels", "filtering", "checksums",
            "cycles_min", "cycles_median", "cycles_max", "yardstick_median", "mpps"]
    cells = [keys]
    for row in rows:
        if row.get("bench") == "datapath":
            cells.append([f"{row[key]:.1f}" if isinstance(row[key], float) else
                          "-" if row[key] is None else str(row[key]) for key in keys])
    return as_table(cells)


def as_table(cells):
    def line(tag, row):
        return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in row) + "</tr>"
    return "<table>" + line("th", cells[0]) + "".join(line("td", row) for row in cells[1:]) + \
        "</table>"
