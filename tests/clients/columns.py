"""What others read in the Parquet files below a directory: pyarrow or DuckDB, one line of JSON a file.

Arguments: the reader and the directory. Each line has the file's name, its columns and their types as the reader names
them, and its rows; timestamps are milliseconds since 1970, decimals text.
"""

import datetime
import decimal
import json
import pathlib
import sys

EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)


def plain(value):
    if isinstance(value, dict):
        return {name: plain(of) for name, of in value.items()}
    if isinstance(value, list):
        return [plain(of) for of in value]
    if isinstance(value, datetime.datetime):
        since = value.replace(tzinfo=value.tzinfo or datetime.timezone.utc) - EPOCH
        return since // datetime.timedelta(milliseconds=1)
    if isinstance(value, decimal.Decimal):
        return format(value, "f")
    return value


def by_pyarrow(path):
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(path)
    return {field.name: str(field.type) for field in table.schema}, table.to_pylist()


def by_duckdb(path):
    import duckdb

    connection = duckdb.connect()
    described = connection.execute("describe select * from read_parquet(?)", [path]).fetchall()
    types = {column[0]: column[1] for column in described}
    # Instants want another package to become values of Python.
    times = [f'epoch_ms("{name}") as "{name}"' for name, kind in types.items() if kind.startswith("TIMESTAMP")]
    replaced = f" replace ({', '.join(times)})" if times else ""
    rows = connection.execute(f"select *{replaced} from read_parquet(?)", [path]).fetchall()
    return types, [dict(zip(types, row)) for row in rows]


def main():
    _, reader, directory = sys.argv
    read = {"pyarrow": by_pyarrow, "duckdb": by_duckdb}[reader]
    for path in sorted(pathlib.Path(directory).rglob("*.parquet")):
        columns, rows = read(str(path))
        print(json.dumps({"file": path.name, "columns": columns, "rows": [plain(row) for row in rows]}))


main()
