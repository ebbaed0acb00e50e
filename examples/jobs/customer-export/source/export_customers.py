"""Copies the customer list for the newsletter team: `export_customers.py INPUT.csv OUTPUT.csv`."""

import csv
import sys

COLUMNS = ["customer_id", "email", "language", "newsletter"]


def export(source, target):
    """Writes the wanted columns of `source` to `target`, both open text files; returns the number of rows."""
    writer = csv.DictWriter(target, COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    rows = 0
    for row in csv.DictReader(source):
        writer.writerow(row)
        rows += 1
    return rows


def main(arguments):
    if len(arguments) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    with open(arguments[0], encoding="utf-8", newline="") as source, open(arguments[1], "w", encoding="utf-8", newline="") as target:
        print(f"{export(source, target)} rows")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
