"""Whether what was answered is what was delivered, and how good it was: as text, and as report.svg."""

import collections
import datetime
import glob
import json


def lines(name):
    with open(name, encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def moment(text):
    return datetime.datetime.fromisoformat(text.removesuffix("Z") + "+00:00").timestamp()


answers = {}
for answer in lines("answers.ndjson"):
    if answer["verdict"] != "kept":
        raise SystemExit(f"no answer: {answer}")
    for row in answer["rows"]:
        if row["output"] != "webhook":
            answers[row["record"]["id"]] = row["record"]
delivered = [record for name in sorted(glob.glob("out/*")) for record in lines(name)]
notices = lines("notices.ndjson")
with open("times.json", encoding="utf-8") as file:
    asked = json.load(file)
with open("fraud.json", encoding="utf-8") as file:
    fraud = {int(number): pattern for number, pattern in json.load(file).items()}

# ---- Each answer is one delivered record, whole.

known = {record["id"]: record for record in delivered}
differ = [number for number, answer in answers.items() if known.get(number) != answer]
once = len(known) == len(delivered) == asked["asked"]
print(f"\nasked {asked['asked']}, answered {len(answers)}, without an answer in time {asked['late']} requests")
print(f"delivered {len(delivered)}, {'each once' if once else 'NOT EACH ONCE'}, other than answered: {len(differ)}")
cards = {record["card"] for record in delivered if record["answer"] == "block"}
untold = cards - {notice["card"] for notice in notices}
# What was not answered in time has passed.
blocked = {number for number, answer in answers.items() if answer["answer"] == "block"}
print(f"blocked {len(blocked)} payments of {len(cards)} cards, {len(notices)} notices, cards without one: {len(untold)}")
seconds = sorted(asked["seconds"])
print(f"time of an answer: {1000 * seconds[len(seconds) // 2]:.0f} ms in the middle, "
      f"{1000 * seconds[len(seconds) * 99 // 100]:.0f} ms for 99 of 100")

# ---- How good.

there = {number for number in known if number in fraud}
hits = blocked & there
print(f"fraud {len(there)}, blocked of it {len(hits)}, blocked of the rest {len(blocked - there)}")
print(f"precision {len(hits) / max(len(blocked), 1):.2f}, recall {len(hits) / len(there):.2f}")
by_pattern = collections.Counter(fraud[number] for number in there)
for pattern, count in sorted(by_pattern.items()):
    print(f"  {pattern:<9} {sum(fraud[number] == pattern for number in hits)} of {count}")

# ---- The picture: every payment by time and score; what is fraud, and what was blocked.

WIDTH, HEIGHT, LEFT, TOP = 1000, 260, 50, 46
COLOURS = {"velocity": "#c0392b", "travel": "#8e44ad", "testing": "#e67e22", "outlier": "#16a085"}
first, last = moment(delivered[0]["time"]), moment(delivered[-1]["time"])
x = lambda at: LEFT + (WIDTH - LEFT - 10) * (at - first) / (last - first)
y = lambda score: TOP + HEIGHT * (1 - score)
svg = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {TOP + HEIGHT + 60}" font-family="sans-serif" '
       'font-size="12">', '<rect width="100%" height="100%" fill="white"/>',
       f'<text x="{LEFT}" y="{TOP - 26}" font-weight="bold">how likely each payment is fraud, as it was answered</text>']
for value in (0, 0.25, 0.5, 0.75, 1):
    svg.append(f'<line x1="{LEFT}" x2="{WIDTH - 10}" y1="{y(value):.1f}" y2="{y(value):.1f}" '
               f'stroke="{"#c0392b" if value == 0.5 else "#eee"}"/>')
    svg.append(f'<text x="{LEFT - 8}" y="{y(value) + 4:.1f}" text-anchor="end">{value}</text>')
# The many that nobody suspects are one path, those of a pixel once.
plain = sorted({(int(x(moment(record["time"]))), int(y(record["fraud"]))) for record in delivered
                if record["id"] not in fraud})
svg.append('<path d="' + "".join(f"M{across} {up}h2" for across, up in plain) + '" stroke="#9db8d9" stroke-width="2"/>')
for record in delivered:
    if record["id"] in fraud:
        svg.append(f'<circle cx="{x(moment(record["time"])):.0f}" cy="{y(record["fraud"]):.0f}" r="4" '
                   f'fill="{COLOURS[fraud[record["id"]]]}" fill-opacity="0.8"/>')
for at, (pattern, colour) in enumerate(COLOURS.items()):
    svg.append(f'<circle cx="{LEFT + 8 + 100 * at}" cy="{TOP - 12}" r="4" fill="{colour}"/>')
    svg.append(f'<text x="{LEFT + 18 + 100 * at}" y="{TOP - 8}">{pattern}</text>')
svg.append(f'<text x="{LEFT + 8 + 400}" y="{TOP - 8}" fill="#6f8fb8">genuine</text>')
day = datetime.datetime.fromtimestamp(first, datetime.timezone.utc).replace(hour=0, minute=0, second=0)
while day.timestamp() <= last:
    if day.timestamp() >= first and day.weekday() == 0:
        svg.append(f'<text x="{x(day.timestamp()):.0f}" y="{TOP + HEIGHT + 20}" text-anchor="middle">{day:%d %b}</text>')
    day += datetime.timedelta(days=1)
svg.append(f'<text x="{LEFT}" y="{TOP + HEIGHT + 44}">above the red line payments are blocked</text></svg>')
with open("report.svg", "w", encoding="utf-8") as file:
    file.write("\n".join(svg) + "\n")
