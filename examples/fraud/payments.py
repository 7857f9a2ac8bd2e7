"""Payments with planted fraud, the same each time: payments.ndjson, and which of them are fraud in fraud.json.

What is drawn how is in README.md. Needs nothing but Python's standard library, whose generator is the same everywhere.
"""

import datetime
import json
import math
import random

SEED, CARDS, SHOPS, DAYS, SHARE = 8, 1200, 200, 90, 0.002
START = datetime.datetime(2026, 3, 2, tzinfo=datetime.timezone.utc).timestamp()
DAY = 86_400
CITIES = [(52.52, 13.40), (48.86, 2.35), (40.42, -3.70), (41.90, 12.50), (59.33, 18.07), (51.51, -0.13), (38.72, -9.14),
          (52.23, 21.01), (37.98, 23.73), (60.17, 24.94), (40.71, -74.01), (25.20, 55.27), (1.35, 103.82), (35.68, 139.65),
          (-33.87, 151.21), (19.43, -99.13)]
AT_HOME = 10  # cards live in the first so many cities
draw = random.Random(SEED)


def poisson(mean):
    """Knuth's method: how many uniform numbers can be multiplied before the product is below exp(-mean)."""
    limit, product, count = math.exp(-mean), draw.random(), 0
    while product > limit:
        product *= draw.random()
        count += 1
    return count


def near(place, degrees):
    return place[0] + draw.gauss(0, degrees), place[1] + draw.gauss(0, degrees)


def kilometres(one, other):
    lat, lon = math.radians(other[0] - one[0]), math.radians(other[1] - one[1])
    part = (math.sin(lat / 2) ** 2
            + math.cos(math.radians(one[0])) * math.cos(math.radians(other[0])) * math.sin(lon / 2) ** 2)
    return 12_742 * math.asin(math.sqrt(part))


class Shop:
    def __init__(self, number):
        self.name = f"shop-{number:03}"
        self.city = None if number % 5 == 0 else draw.randrange(len(CITIES))  # a fifth sells online
        self.place = None if self.city is None else near(CITIES[self.city], 0.05)
        self.weight = 1 / (1 + draw.randrange(20))


class Card:
    def __init__(self, number):
        self.name = f"card-{number:04}"
        self.home = draw.randrange(AT_HOME)
        self.rate = draw.gammavariate(2, 1)          # payments a day
        self.level = draw.gauss(3.2, 0.5)            # of the logarithm of amounts

    def amount(self):
        return math.exp(draw.gauss(self.level, 0.6))


shops = [Shop(number) for number in range(SHOPS)]
cards = [Card(number) for number in range(CARDS)]
of_city = {city: [shop for shop in shops if shop.city == city] for city in [None, *range(len(CITIES))]}
payments = []


def pay(card, at, amount, shop, fraud=None):
    payments.append((at, card.name, round(max(amount, 0.5), 2), shop, fraud))


def shop_in(city):
    choice = of_city[city] or of_city[None]
    return draw.choices(choice, [shop.weight for shop in choice])[0]


def moment(day):
    """Seconds: most people pay in the afternoon."""
    return START + (day + (draw.gauss(14, 4) % 24) / 24) * DAY


# ---- What is genuine.

for card in cards:
    away, until = None, -1
    for day in range(DAYS):
        if day > until and draw.random() < 0.01:     # a journey of one to five days
            away, until = draw.randrange(len(CITIES)), day + draw.randrange(1, 6)
        city = away if day <= until else card.home
        count = poisson(card.rate)
        for _ in range(count):
            amount = card.amount() * (draw.uniform(4, 12) if draw.random() < 0.004 else 1)   # now and then something dear
            pay(card, moment(day), amount, shop_in(None if draw.random() < 0.2 else city))
        if draw.random() < 0.004:                    # a round through the shops
            at = moment(day)
            for _ in range(draw.randrange(4, 9)):
                at += draw.expovariate(1 / 420)
                pay(card, at, card.amount(), shop_in(city))

# ---- What is not: patterns in turn, until they have their share.

genuine = sorted(payments, key=lambda payment: payment[0])
wanted = round(len(genuine) * SHARE / (1 - SHARE))
of_name = {card.name: card for card in cards}


def velocity():
    """Somebody empties a card: six to twelve payments in about twenty minutes, in shops that sell online."""
    card, at = draw.choice(cards), moment(draw.randrange(DAYS))
    for _ in range(draw.randrange(6, 13)):
        at += draw.expovariate(1 / 120)
        pay(card, at, card.amount() * draw.uniform(1, 2.5), shop_in(None), "velocity")


def travel():
    """A copy of a card pays far away, ten minutes to an hour after the card itself: one or two payments."""
    while True:
        at, name, _, shop, _ = draw.choice(genuine)
        far = [city for city in range(len(CITIES)) if shop.place and kilometres(shop.place, CITIES[city]) > 2000]
        if far:
            break
    city = draw.choice(far)
    for _ in range(draw.randrange(1, 3)):
        at += draw.uniform(600, 3600)
        pay(of_name[name], at, of_name[name].amount() * draw.uniform(1, 2), shop_in(city), "travel")


def testing():
    """Stolen numbers are tried: eight to fifteen cards, small amounts, one shop, about ten minutes."""
    shop, at = shop_in(None), moment(draw.randrange(DAYS))
    for card in draw.sample(cards, draw.randrange(8, 16)):
        at += draw.expovariate(1 / 50)
        pay(card, at, draw.uniform(0.5, 3), shop, "testing")


def outlier():
    """One payment of fifteen to forty times what the card pays."""
    card = draw.choice(cards)
    amount = math.exp(card.level) * draw.uniform(15, 40)
    pay(card, moment(draw.randrange(DAYS)), amount, shop_in(None if draw.random() < 0.5 else card.home), "outlier")


planted = {velocity: 0, travel: 0, testing: 0, outlier: 0}
while sum(planted.values()) < wanted:
    pattern = min(planted, key=planted.get)
    before = len(payments)
    pattern()
    planted[pattern] += len(payments) - before

payments.sort(key=lambda payment: payment[:2])
fraud = {}
with open("payments.ndjson", "w", encoding="utf-8") as file:
    for number, (at, card, amount, shop, pattern) in enumerate(payments):
        time = datetime.datetime.fromtimestamp(int(at), datetime.timezone.utc)
        lat, lon = (None, None) if shop.place is None else (round(shop.place[0], 4), round(shop.place[1], 4))
        file.write(json.dumps({"id": number, "time": f"{time:%Y-%m-%dT%H:%M:%SZ}", "card": card, "amount": amount,
                               "shop": shop.name, "lat": lat, "lon": lon}) + "\n")
        if pattern:
            fraud[number] = pattern
with open("fraud.json", "w", encoding="utf-8") as file:
    json.dump(fraud, file)
print(f"{len(payments)} payments of {CARDS} cards in {SHOPS} shops over {DAYS} days, {len(fraud)} of them fraud "
      f"({100 * len(fraud) / len(payments):.2f} %): "
      + ", ".join(f"{count} {pattern.__name__}" for pattern, count in planted.items()))
