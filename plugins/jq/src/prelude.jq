# What jq 1.6 has and jaq's library has not.

# Of a list of plain values: texts in quotes, null as nothing.
def @csv:
  def cell:
    if isstring then "\"" + (split("\"") | join("\"\"")) + "\""
    elif . == null then ""
    elif isarray or isobject then error("a row of @csv holds plain values")
    else tostring end;
  map(cell) | join(",");

# The same with tabs; what would be taken for one is escaped.
def @tsv:
  def cell:
    if isstring then
      gsub("\\\\"; "\\\\") | gsub("\t"; "\\t") | gsub("\n"; "\\n") | gsub("\r"; "\\r")
    elif . == null then ""
    elif isarray or isobject then error("a row of @tsv holds plain values")
    else tostring end;
  map(cell) | join("\t");

def IN(values): . as $one | any(values; . == $one);
def IN(source; values): any(source; IN(values));
def INDEX(rows; key): reduce rows as $row ({}; . + {($row | key | tostring): $row});
def INDEX(key): INDEX(.[]; key);

def leaf_paths: paths(scalars);
def date: todate;
