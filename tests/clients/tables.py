"""What others do with an Iceberg table at a REST catalog.

Arguments: a command, the catalog's URL, the table's name, and JSON of the command:

    rows     read it with pyiceberg, its data files with pyarrow, and these with DuckDB: one line of JSON with the rows as each
             of the three has them, in the order of `n`, the types of pyiceberg's schema, and the table's snapshots and properties
    create   make it with this schema of pyarrow: {"schema": {NAME: TYPE}, "partition": NAME or null}
    append   append this many times one row with these numbers: {"from": N, "times": N}
    change   {"property": [NAME, VALUE]}, {"column": NAME} to add, {"expire": true} all snapshots but the newest, or {"drop": true}

Times are microseconds since 1970, days text, decimals text, bytes hexadecimal text.
"""

import datetime
import decimal
import json
import sys
import time

from pyiceberg.catalog.rest import RestCatalog
from pyiceberg.exceptions import CommitFailedException

EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)


def plain(value):
    if isinstance(value, dict):
        return {name: plain(of) for name, of in value.items()}
    # A map, as pyarrow has it.
    if isinstance(value, list) and value and all(isinstance(of, tuple) for of in value):
        return {name: plain(of) for name, of in value}
    if isinstance(value, list):
        return [plain(of) for of in value]
    if isinstance(value, datetime.datetime):
        since = value.replace(tzinfo=value.tzinfo or datetime.timezone.utc) - EPOCH
        return since // datetime.timedelta(microseconds=1)
    if isinstance(value, datetime.date):
        return value.isoformat()
    if isinstance(value, decimal.Decimal):
        return format(value, "f")
    if isinstance(value, (bytes, bytearray)):
        return bytes(value).hex()
    return value


def ordered(rows):
    return sorted((plain(row) for row in rows), key=lambda row: row["n"])


def by_duckdb(paths):
    import duckdb

    if not paths:
        return []
    connection = duckdb.connect()
    described = connection.execute("describe select * from read_parquet(?)", [paths]).fetchall()
    # Instants want another package to become values of Python.
    times = [f'epoch_us("{name}") as "{name}"' for name, kind, *_ in described if kind.startswith("TIMESTAMP")]
    replaced = f" replace ({', '.join(times)})" if times else ""
    rows = connection.execute(f"select *{replaced} from read_parquet(?)", [paths]).fetchall()
    return [dict(zip([column[0] for column in described], row)) for row in rows]


def rows(table, _):
    import pyarrow.parquet

    files = [task.file for task in table.scan().plan_files()]
    paths = [file.file_path for file in files]
    inputs = [table.io.new_input(path) for path in paths]
    by_pyarrow = [row for file in inputs for row in pyarrow.parquet.read_table(file.open()).to_pylist()]
    local = [path.removeprefix("file://").removeprefix("file:") for path in paths]
    first = [file for file in files if table.schema().find_field("n").field_id in file.lower_bounds]
    print(json.dumps({
        "types": {field.name: str(field.field_type) for field in table.schema().fields},
        "pyiceberg": ordered(table.scan().to_arrow().to_pylist()),
        # With bounds of other rows, files are passed over.
        "filtered": ordered(table.scan(row_filter="n >= 100 and n < 110").to_arrow().to_pylist()),
        "pyarrow": ordered(by_pyarrow),
        "duckdb": ordered(by_duckdb(local)) if all(path.startswith("/") for path in local) else None,
        "files": len(files),
        "bounded": len(first),
        "snapshots": [snapshot.summary.additional_properties for snapshot in table.snapshots()],
        "properties": table.properties,
    }))


def append(table, told):
    import pyarrow

    for number in range(told["from"], told["from"] + told["times"]):
        row = pyarrow.table({"n": [number]}, schema=pyarrow.schema([pyarrow.field("n", pyarrow.int64(), nullable=False)]))
        while True:
            try:
                table.append(row)
                break
            except CommitFailedException:
                table.refresh()
        # The others are to have their turn.
        time.sleep(0.05)


def create(catalog, name, told):
    import pyarrow

    schema = pyarrow.schema([(column, getattr(pyarrow, kind)()) for column, kind in told["schema"].items()])
    catalog.create_namespace_if_not_exists(name.rsplit(".", 1)[0])
    table = catalog.create_table(name, schema)
    if told.get("partition"):
        with table.update_spec() as spec:
            spec.add_identity(told["partition"])


def change(catalog, table, told):
    if "property" in told:
        with table.transaction() as transaction:
            transaction.set_properties({told["property"][0]: told["property"][1]})
    if "column" in told:
        from pyiceberg.types import StringType

        with table.update_schema() as schema:
            schema.add_column(told["column"], StringType())
    if told.get("expire"):
        newest = table.current_snapshot().snapshot_id
        old = [snapshot.snapshot_id for snapshot in table.snapshots() if snapshot.snapshot_id != newest]
        table.maintenance.expire_snapshots().by_ids(old).commit()
    if told.get("drop"):
        catalog.drop_table(table.name())


def main():
    _, command, url, name, given = sys.argv
    given = json.loads(given)
    catalog = RestCatalog("tests", uri=url, **given.pop("catalog", {}))
    if command == "create":
        create(catalog, name, given)
        return
    table = catalog.load_table(name)
    if command == "change":
        change(catalog, table, given)
    else:
        {"rows": rows, "append": append}[command](table, given)


main()
