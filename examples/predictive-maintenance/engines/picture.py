"""How far the flights that were said to be left are from those that were: as text, and as picture.svg."""

import glob
import json
import sys


def lines(name):
    with open(name, encoding="utf-8") as file:
        return [json.loads(line) for line in file]


flights = [flight for name in sorted(glob.glob("out/*")) for flight in lines(name)]
notices = lines("notices.ndjson")
# Of engine n, counted from 1: how many flights it had left after its last one here.
with open(sys.argv[1], encoding="utf-8") as file:
    left = dict(enumerate((int(line) for line in file if line.strip()), 1))
last = {}
for flight in flights:
    if flight["cycle"] > last.get(flight["unit"], {"cycle": 0})["cycle"]:
        last[flight["unit"]] = flight
assert last.keys() == left.keys(), "engines without a flight, or without an end"


def rmse(pairs):
    pairs = list(pairs)
    return (sum((said - true) ** 2 for said, true in pairs) / len(pairs)) ** 0.5


said = {unit: flight["life"] for unit, flight in last.items()}
print(f"\n{len(flights)} flights of {len(last)} engines, {len(notices)} notices")
print(f"RMSE of the last flight: {rmse((said[unit], left[unit]) for unit in left):.1f} flights "
      f"({rmse((said[unit], min(left[unit], 125)) for unit in left):.1f} with ends beyond 125 flights taken for 125)")
# Engines that an alarm stands for at the end of what is known.
alarmed = {unit for unit, flight in last.items() if flight.get("state") == "firing"}
due = {unit for unit in left if left[unit] < 30}
print(f"engines with fewer than 30 flights left: {len(due)}, alarms for {len(due & alarmed)} of them, "
      f"and for {len(alarmed - due)} others")
for what, units in (("without", due - alarmed), ("others", alarmed - due)):
    for unit in sorted(units):
        print(f"  {what}: engine {unit}, {left[unit]} flights left, said {said[unit]}")
first = {}
for notice in notices:
    if notice["status"] == "firing":
        first.setdefault(notice["unit"], notice)
true = [left[unit] + last[unit]["cycle"] - notice["cycle"] for unit, notice in sorted(first.items())]
print(f"flights left when the first alarm of an engine fired: {min(true)} to {max(true)}, "
      f"in the middle {sorted(true)[len(true) // 2]}")

# ---- The picture: what was said and what was, and how it went with some engines.

SIDE, LEFT, TOP, MOST, WIDE = 320, 50, 40, 150, 500
scale = lambda value: SIDE * value / MOST
x = lambda value: LEFT + scale(value)
y = lambda value: TOP + SIDE - scale(value)
svg = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {LEFT + SIDE + 90 + WIDE + 20} {TOP + SIDE + 60}" '
       'font-family="sans-serif" font-size="12">', '<rect width="100%" height="100%" fill="white"/>']
svg.append(f'<text x="{LEFT}" y="{TOP - 16}" font-weight="bold">flights left after the last flight of each engine</text>')
svg.append(f'<rect x="{x(0)}" y="{y(30):.1f}" width="{scale(30):.1f}" height="{scale(30):.1f}" fill="#f9e79f"/>')
for value in range(0, MOST + 1, 30):
    svg.append(f'<line x1="{x(0)}" x2="{x(MOST)}" y1="{y(value):.1f}" y2="{y(value):.1f}" stroke="#eee"/>')
    svg.append(f'<text x="{x(0) - 8}" y="{y(value) + 4:.1f}" text-anchor="end">{value}</text>')
    svg.append(f'<text x="{x(value):.1f}" y="{y(0) + 18}" text-anchor="middle">{value}</text>')
svg.append(f'<line x1="{x(0)}" y1="{y(0)}" x2="{x(MOST)}" y2="{y(MOST)}" stroke="#aaa"/>')
for unit, flight in sorted(last.items()):
    colour = "#c0392b" if unit in alarmed else "#4a7ebb"
    svg.append(f'<circle cx="{x(left[unit]):.0f}" cy="{y(flight["life"]):.0f}" r="3.5" fill="{colour}" '
               'fill-opacity="0.7"/>')
svg.append(f'<text x="{LEFT}" y="{y(0) + 42}">across: as it was; up: as it was said; red: an alarm</text>')
# Those with the longest known past that were near their end.
right = LEFT + SIDE + 90
shown = sorted(sorted(due, key=lambda unit: -last[unit]["cycle"])[:4])
longest = max(last[unit]["cycle"] for unit in shown)
across = lambda cycle: right + WIDE * cycle / longest
svg.append(f'<text x="{right}" y="{TOP - 16}" font-weight="bold">engines {", ".join(map(str, shown))}, flight by flight</text>')
for value in range(0, MOST + 1, 30):
    svg.append(f'<line x1="{right}" x2="{right + WIDE}" y1="{y(value):.1f}" y2="{y(value):.1f}" '
               f'stroke="{"#c0392b" if value == 30 else "#eee"}"/>')
    svg.append(f'<text x="{right - 8}" y="{y(value) + 4:.1f}" text-anchor="end">{value}</text>')
for value in range(0, longest + 1, 50):
    svg.append(f'<text x="{across(value):.1f}" y="{y(0) + 18}" text-anchor="middle">{value}</text>')
for unit, colour in zip(shown, ("#4a7ebb", "#27ae60", "#8e44ad", "#e67e22")):
    points = [(flight["cycle"], flight["life"]) for flight in flights if flight["unit"] == unit]
    line = " ".join(f"{across(cycle):.1f},{y(life):.0f}" for cycle, life in sorted(points))
    svg.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
    end = last[unit]["cycle"]
    svg.append(f'<line x1="{across(0):.1f}" x2="{across(end):.1f}" y1="{y(left[unit] + end):.1f}" y2="{y(left[unit]):.1f}" '
               f'stroke="{colour}" stroke-dasharray="3 4" clip-path="url(#known)"/>')
svg.append(f'<clipPath id="known"><rect x="{right}" y="{TOP}" width="{WIDE}" height="{SIDE}"/></clipPath>')
svg.append(f'<text x="{right}" y="{y(0) + 42}">lines: as it was said; dashed: as it was; red: below it an alarm fires</text></svg>')
with open("picture.svg", "w", encoding="utf-8") as file:
    file.write("\n".join(svg) + "\n")
