"""What is in the two tables: as text, and as report.svg. Needs DuckDB (pip install duckdb==2.0.1), nothing else."""

import duckdb

db = duckdb.connect()
db.execute("SET TimeZone = 'UTC'")
db.execute("CREATE VIEW minutes AS SELECT * FROM 'out/minutes/*.parquet'")
db.execute("CREATE VIEW pages AS SELECT * FROM 'out/pages/*.parquet'")

TOTAL = """
    SELECT sum(hits)::BIGINT AS requests, count(*) AS minutes, sum(errors)::BIGINT AS errors,
           round(100 * sum(errors) / sum(hits), 2) AS error_percent,
           round(100 * sum(bot_share * hits) / sum(hits), 1) AS bot_percent, sum(bytes)::BIGINT AS bytes
    FROM minutes"""
# What each minute kept of its five best is summed: a client that is never among them is not seen.
TALKERS = """
    SELECT talker.item AS client, sum(talker.count)::BIGINT AS requests
    FROM (SELECT unnest(talkers) AS talker FROM minutes) GROUP BY client ORDER BY requests DESC, client LIMIT 5"""
UNUSUAL = """
    SELECT strftime(window_start, '%Y-%m-%d %H:%M') AS minute, what, value, round(score, 1) AS score
    FROM (SELECT window_start, 'requests' AS what, hits AS value, anomaly.hits.score, anomaly.hits.alarm FROM minutes
          UNION ALL
          SELECT window_start, 'bytes', bytes, anomaly.bytes.score, anomaly.bytes.alarm FROM minutes
          UNION ALL
          SELECT window_start, 'errors', errors, anomaly.errors.score, anomaly.errors.alarm FROM minutes)
    WHERE alarm ORDER BY minute, what"""
# Quantiles do not add up: these are of the minute in which the page had most requests. First those whose answers differ.
PAGES = """
    SELECT page, class, requests::BIGINT AS requests, sent::BIGINT AS bytes, strftime(window_start, '%m-%d %H:%M') AS busiest,
           hits, sizes[1]::BIGINT AS p50, sizes[2]::BIGINT AS p95, sizes[3]::BIGINT AS p99
    FROM (SELECT *, sum(hits) OVER of_page AS requests, sum(bytes) OVER of_page AS sent,
              row_number() OVER (PARTITION BY page, class ORDER BY hits DESC, window_start) AS place
          FROM pages WINDOW of_page AS (PARTITION BY page, class))
    WHERE place = 1 AND sizes[1] IS NOT NULL ORDER BY p99 > p50 DESC, requests DESC, page, class LIMIT 10"""
ERRORS = """
    SELECT page, sum(hits)::BIGINT AS requests, sum(error_rate * hits)::BIGINT AS errors,
           round(100 * errors / requests, 1) AS error_percent,
           count(DISTINCT window_start) FILTER (error_rate > 0) AS minutes_with_errors
    FROM pages GROUP BY page HAVING errors > 0 ORDER BY errors DESC, page LIMIT 5"""
CLASSES = "SELECT class, sum(hits)::BIGINT AS requests FROM pages GROUP BY class ORDER BY class"


def show(title, query):
    found = db.execute(query)
    names, rows = [column[0] for column in found.description], found.fetchall()
    cells = [names] + [["" if value is None else str(value) for value in row] for row in rows]
    widths = [max(len(row[at]) for row in cells) for at in range(len(names))]
    print(f"\n{title}")
    for row in cells:
        print("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())


show("All of it", TOTAL)
show("Pages by class of status", CLASSES)
show("Who asked most", TALKERS)
show("Minutes that are unusual against the 24 before", UNUSUAL)
show("Pages and the sizes of their answers, in the minute with most of their requests", PAGES)
show("Pages with most errors", ERRORS)

# ---- The picture.

PANELS, WIDTH, LEFT, RIGHT, HIGH, GAP = 5, 960, 70, 20, 130, 46


def short(value):
    return f"{value / 1e6:g} M" if value >= 1e6 else f"{value:g}"


def panel(number, title, series, top, marks=(), floor=0.0, logarithm=False, bars=False):
    """One panel: series of (name, colour, values), and the places of those to be marked, as SVG."""
    from math import log10

    y0 = GAP + number * (HIGH + GAP)
    scale = (lambda value: log10(max(value, floor))) if logarithm else (lambda value: value)
    low, high = scale(floor), scale(top)
    count = len(series[0][2])
    x = lambda at: LEFT + (WIDTH - LEFT - RIGHT) * (at + 0.5) / count
    y = lambda value: y0 + HIGH * (1 - (scale(value) - low) / (high - low))
    out = [f'<text x="{LEFT}" y="{y0 - 12}" class="title">{title}</text>']
    for at, (name, colour, _) in enumerate(series):
        out.append(f'<text x="{WIDTH - RIGHT - 90 * (len(series) - at) + 80}" y="{y0 - 12}" fill="{colour}" '
                   f'text-anchor="end">{name}</text>')
    for value, label in ((floor, short(floor)), (top, short(top))):
        out.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(value):.1f}" y2="{y(value):.1f}" stroke="#ddd"/>')
        out.append(f'<text x="{LEFT - 8}" y="{y(value) + 4:.1f}" text-anchor="end">{label}</text>')
    for name, colour, values in series:
        if bars:
            wide = (WIDTH - LEFT - RIGHT) / count * 0.7
            out += [f'<rect x="{x(at) - wide / 2:.1f}" y="{y(value):.1f}" width="{wide:.1f}" '
                    f'height="{y0 + HIGH - y(value):.1f}" fill="{colour}"/>' for at, value in enumerate(values)]
        else:
            points = " ".join(f"{x(at):.1f},{y(value):.1f}" for at, value in enumerate(values))
            out.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
    for at, value in marks:
        out.append(f'<circle cx="{x(at):.1f}" cy="{y(value):.1f}" r="5" fill="none" stroke="#c0392b" stroke-width="2"/>')
    return out


rows = db.execute("""
    SELECT strftime(window_start, '%d %b %H:%M'), hits, error_rate * 100, bot_share * 100, sizes[1], sizes[2], bytes,
           coalesce(anomaly.hits.alarm, false), coalesce(anomaly.errors.alarm, false),
           coalesce(anomaly.bytes.alarm, false)
    FROM minutes ORDER BY window_start""").fetchall()
columns = list(zip(*rows))
marked = lambda flags, values: [(at, values[at]) for at, flag in enumerate(columns[flags]) if flag]
top = lambda values, step: max(step, -(-max(values) // step) * step)
svg = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {PANELS * (HIGH + GAP) + GAP}" '
       'font-family="sans-serif" font-size="12">',
       "<style>.title{font-weight:bold}</style>", '<rect width="100%" height="100%" fill="white"/>']
hits, errors, bots, median, tail, sent = columns[1:7]
svg += panel(0, "requests a minute", [("requests", "#4a7ebb", hits)], top(hits, 50), marked(7, hits), bars=True)
svg += panel(1, "per cent of them", [("errors", "#c0392b", errors), ("bots", "#7f8c8d", bots)],
             top(errors + bots, 10), marked(8, errors))
svg += panel(2, "bytes of an answer (logarithm)", [("median", "#27ae60", median), ("95 %", "#16a085", tail)],
             10 ** len(str(int(max(tail)))), floor=1000, logarithm=True)
svg += panel(3, "bytes a minute (logarithm)", [("bytes", "#8e44ad", sent)],
             10 ** len(str(int(max(sent)))), marked(9, sent), floor=10 ** 5, logarithm=True)
classes = list(zip(*db.execute("""
    SELECT coalesce(sum(p.hits) FILTER (class = '2xx'), 0), coalesce(sum(p.hits) FILTER (class = '3xx'), 0),
           coalesce(sum(p.hits) FILTER (class >= '4xx'), 0)
    FROM minutes LEFT JOIN pages AS p USING (window_start) GROUP BY window_start ORDER BY window_start""").fetchall()))
classes = list(zip(("answered", "elsewhere", "errors"), ("#27ae60", "#4a7ebb", "#c0392b"), classes))
svg += panel(4, "pages a minute, by class of status: 2xx, 3xx, 4xx and 5xx", classes,
             top([value for _, _, values in classes for value in values], 10))
bottom = PANELS * (HIGH + GAP) + 20
for at in range(0, len(rows), max(1, len(rows) // 7)):
    place = LEFT + (WIDTH - LEFT - RIGHT) * (at + 0.5) / len(rows)
    svg.append(f'<text x="{place:.1f}" y="{bottom}" text-anchor="middle">{rows[at][0]}</text>')
svg.append(f'<text x="{LEFT}" y="{bottom + 24}">circles: unusual against the 24 rows before</text></svg>')
with open("report.svg", "w", encoding="utf-8") as file:
    file.write("\n".join(svg) + "\n")
print("\nreport.svg is the picture")
