#!/usr/bin/env python3
"""Draws what `pqkv_bench --ratios` printed, as SVG; needs Python's standard library only.

    build/release/bench/pqkv_bench --ratios context attend score > reached.md
    bench/plot.py reached.md context.svg bandwidth.svg

context.svg: nanoseconds per token over the length of the context. bandwidth.svg: what each format reads per second, as a
share of what the machine reads when it does nothing else (from the `limits` lines of the same run).
"""
import argparse
import math
import re
import sys

WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 720, 360, 70, 40, 50
COLOURS = ["#1f6feb", "#d1242f", "#1a7f37", "#9a6700"]


def rows_of(path):
    """(measure, median) of every line with a figure."""
    rows = []
    with open(path, encoding="utf-8") as file:
        for line in file:
            cells = [cell.strip() for cell in line.split("|")]
            if len(cells) > 3 and (match := re.match(r"[\d.]+", cells[2])):
                rows.append((cells[1], float(match.group())))
    return rows


def text(x, y, words, anchor="middle", size=12):
    words = words.replace("&", "&amp;").replace("<", "&lt;")
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}">{words}</text>'


def write(path, parts, height=HEIGHT):
    with open(path, "w", encoding="utf-8") as file:
        file.write(f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
                   f'font-family="sans-serif"><rect width="100%" height="100%" fill="white"/>\n')
        file.write("\n".join(parts) + "\n</svg>\n")


def draw_context(rows, path):
    """A line per policy, both axes logarithmic."""
    series = {}
    for measure, value in rows:
        if match := re.match(r"attend (.+) at (\d+) tokens, cold(, own exact f16)?$", measure):
            name = "exact f16" if match.group(3) else match.group(1)
            series.setdefault(name, []).append((int(match.group(2)), value))
    if not series:
        sys.exit("no lines of the group 'context' in the input")
    tokens = [x for points in series.values() for x, _ in points]
    times = [y for points in series.values() for _, y in points]
    low, high = min(times) / 1.3, max(times) * 1.3

    def place(x, y):
        across = math.log(x / min(tokens)) / math.log(max(tokens) / min(tokens))
        up = math.log(y / low) / math.log(high / low)
        return LEFT + across * (WIDTH - LEFT - 30), HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)

    parts = [text(WIDTH / 2, 20, "attention of one head from memory: nanoseconds per token", size=14),
             text(WIDTH / 2, HEIGHT - 8, "tokens")]
    for count in sorted(set(tokens)):
        x, _ = place(count, low)
        parts.append(text(x, HEIGHT - BOTTOM + 18, str(count) if count < 1024 else f"{count // 1024}k"))
    for value in (1, 2, 5, 10, 20, 50, 100, 200):
        if low <= value <= high:
            _, y = place(min(tokens), value)
            parts.append(f'<line x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - 30}" y2="{y:.1f}" stroke="#ddd"/>')
            parts.append(text(LEFT - 8, y + 4, str(value), "end"))
    for index, (name, points) in enumerate(series.items()):
        colour = COLOURS[index % len(COLOURS)]
        line = " ".join("{:.1f},{:.1f}".format(*place(*point)) for point in sorted(points))
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        x, y = place(*sorted(points)[-1])
        parts.append(f'<g fill="{colour}">{text(x, y - 8, name, "end")}</g>')
    write(path, parts)


def draw_bandwidth(rows, path):
    """A bar per line that names its bytes: GB/s against the memory's."""
    figures = dict(rows)
    memory = figures.get("limits: reading memory")
    bars = [(measure.removesuffix(", reads"), value) for measure, value in rows if measure.endswith(", reads")]
    if memory is None or not bars:
        sys.exit("no limits, or no lines with bytes per second, in the input")
    step = 24
    height = TOP + step * len(bars) + 30
    left = 360
    full = (WIDTH - left - 90) / max(memory, *(value for _, value in bars))
    parts = [text(WIDTH / 2, 20, f"GB/s read from memory (line: reading and nothing else, {memory:.1f})", size=14)]
    for index, (name, value) in enumerate(bars):
        y = TOP + index * step
        parts.append(text(left - 8, y + 14, name, "end", 11))
        parts.append(f'<rect x="{left}" y="{y}" width="{value * full:.1f}" height="{step - 6}" fill="{COLOURS[0]}"/>')
        parts.append(text(left + value * full + 6, y + 14, f"{value:.1f}", "start", 11))
    x = left + memory * full
    parts.append(f'<line x1="{x:.1f}" y1="{TOP - 6}" x2="{x:.1f}" y2="{height - 20}" stroke="{COLOURS[1]}"/>')
    write(path, parts, height)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reached", help="what pqkv_bench --ratios printed")
    parser.add_argument("context", help="SVG to write: nanoseconds per token over context")
    parser.add_argument("bandwidth", help="SVG to write: GB/s against the machine's")
    arguments = parser.parse_args()
    rows = rows_of(arguments.reached)
    draw_context(rows, arguments.context)
    draw_bandwidth(rows, arguments.bandwidth)


if __name__ == "__main__":
    main()
