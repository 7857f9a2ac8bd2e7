"""What files of Parquet are made of, a line of JSON for each: how many bytes its row groups have, decoded, and the numbers `n`."""

import json
import sys
from pathlib import Path

from pyarrow import parquet

for path in sorted(Path(sys.argv[1]).rglob("*.parquet")):
    file = parquet.ParquetFile(path)
    groups = [file.metadata.row_group(group).total_byte_size for group in range(file.metadata.num_row_groups)]
    print(json.dumps({"groups": groups, "n": file.read(["n"])["n"].to_pylist()}))
