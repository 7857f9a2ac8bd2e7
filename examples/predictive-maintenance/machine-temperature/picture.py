"""How the alarms lie to the windows in which people saw that something was wrong: as text, and as picture.svg."""

import datetime
import glob
import json

# Of the Numenta Anomaly Benchmark; the last ends in the failure of the machine.
LABELLED = [("2013-12-10 06:25", "2013-12-12 05:35"), ("2013-12-15 17:50", "2013-12-17 17:00"),
            ("2014-01-27 14:20", "2014-01-29 13:30"), ("2014-02-07 14:55", "2014-02-09 14:05")]


def moment(text):
    return datetime.datetime.fromisoformat(text.removesuffix("Z") + "+00:00").timestamp()


def lines(name):
    with open(name, encoding="utf-8") as file:
        return [json.loads(line) for line in file]


readings = [reading for name in sorted(glob.glob("out/*")) for reading in lines(name)]
readings = [(moment(reading["time"]), reading["value"], reading.get("state")) for reading in readings]
notices = lines("notices.ndjson")
windows = [(moment(start), moment(end)) for start, end in LABELLED]
within = lambda at: next((number for number, (start, end) in enumerate(windows) if start <= at <= end), None)

# An alarm is where its first notice says so.
alarms = [notice for notice in notices if notice["status"] == "firing" and notice["notice"] == 1]
hit = {within(moment(alarm["at"])) for alarm in alarms} - {None}
false = [alarm for alarm in alarms if within(moment(alarm["at"])) is None]
print(f"\n{len(readings)} readings, {len(alarms)} alarms, {len(notices)} notices")
for alarm in alarms:
    number = within(moment(alarm["at"]))
    where = "false alarm" if number is None else f"window {number + 1}"
    end = next((notice["at"] for notice in notices if notice["status"] == "resolved"
                and notice["dedup_key"] == alarm["dedup_key"]), "the end of the readings")
    print(f"  {alarm['at']} (since {alarm['since']}, until {end}): {where}")
print(f"windows with an alarm: {len(hit)} of 4, the failure {'is' if 3 in hit else 'is not'} among them; "
      f"false alarms: {len(false)}")

# ---- The picture: the least and the greatest reading of each column of pixels.

WIDTH, HEIGHT, LEFT, TOP = 1100, 300, 50, 40
first, last = readings[0][0], readings[-1][0]
low, high = 0, 110
x = lambda at: LEFT + (WIDTH - LEFT - 10) * (at - first) / (last - first)
y = lambda value: TOP + HEIGHT * (1 - (value - low) / (high - low))
svg = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {TOP + HEIGHT + 60}" font-family="sans-serif" '
       'font-size="12">', '<rect width="100%" height="100%" fill="white"/>']
for start, end in windows:
    svg.append(f'<rect x="{x(start):.1f}" y="{TOP}" width="{x(end) - x(start):.1f}" height="{HEIGHT}" fill="#f9e79f"/>')
for value in range(0, 101, 20):
    svg.append(f'<line x1="{LEFT}" x2="{WIDTH - 10}" y1="{y(value):.1f}" y2="{y(value):.1f}" stroke="#eee"/>')
    svg.append(f'<text x="{LEFT - 8}" y="{y(value) + 4:.1f}" text-anchor="end">{value}</text>')
columns = {}
for at, value, _ in readings:
    before = columns.get(int(x(at)), (value, value))
    columns[int(x(at))] = (min(before[0], value), max(before[1], value))
path = "".join(f"M{column} {y(most):.1f}V{y(least) + 0.5:.1f}" for column, (least, most) in sorted(columns.items()))
svg.append(f'<path d="{path}" stroke="#4a7ebb" fill="none"/>')
# Where alarms fire: a red bar below.
began = None
for at, _, state in readings + [(last, 0, None)]:
    if state == "firing" and began is None:
        began = at
    elif state != "firing" and began is not None:
        svg.append(f'<rect x="{x(began):.1f}" y="{TOP + HEIGHT + 4}" width="{x(at) - x(began):.1f}" height="8" '
                   'fill="#c0392b"/>')
        began = None
for alarm in alarms:
    at = x(moment(alarm["at"]))
    svg.append(f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{TOP}" y2="{TOP + HEIGHT + 12}" stroke="#c0392b" stroke-width="1.5"/>')
day = datetime.datetime.fromtimestamp(first, datetime.timezone.utc).replace(hour=0, minute=0, second=0)
while day.timestamp() <= last:
    if day.timestamp() >= first and day.weekday() == 0:
        svg.append(f'<text x="{x(day.timestamp()):.1f}" y="{TOP + HEIGHT + 30}" text-anchor="middle">{day:%d %b}</text>')
    day += datetime.timedelta(days=1)
svg.append(f'<text x="{LEFT}" y="{TOP - 16}" font-weight="bold">temperature of the machine</text>')
svg.append(f'<text x="{LEFT}" y="{TOP + HEIGHT + 50}">yellow: labelled by people; red: an alarm fires, from the line on '
           "until a day was quiet; the last window ends in the failure</text></svg>")
with open("picture.svg", "w", encoding="utf-8") as file:
    file.write("\n".join(svg) + "\n")
