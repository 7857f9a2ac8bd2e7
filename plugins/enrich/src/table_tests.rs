//! Tables read piece by piece: what is kept, what is refused and where.

use super::*;

fn lookup(config: &str) -> Lookup {
    serde_json::from_str(config).unwrap()
}

/// Reads the table in pieces of `size` bytes.
fn read(lookup: &Lookup, format: Format, text: &[u8], size: usize) -> Result<Table, TableFault> {
    load(lookup, format, &mut |offset| {
        let start = (offset as usize).min(text.len());
        Ok(text[start..(start + size).min(text.len())].to_vec())
    })
}

fn fault(config: &str, format: Format, text: &str) -> String {
    let result = read(&lookup(config), format, text.as_bytes(), 1 << 16);
    result.err().expect("the table is refused").to_string()
}

const CSV: &str =
    r#"{"field":"k","table":{"file":"t","types":{"n":"number","b":"boolean"}},"copy":["n","b"]}"#;

#[test]
fn load_csv_in_pieces_of_any_size_finds_the_same_rows() {
    let text = "\u{feff}id,n,b\r\n\"a,1\",1,true\r\n\r\n\"b\n\"\"\",2.50,\r\nc,,false";
    for size in 1..text.len() + 1 {
        let mut table = read(&lookup(CSV), Format::Csv, text.as_bytes(), size).unwrap();
        assert_eq!(table.find(b"a,1"), 0, "{size}");
        assert_eq!(table.find(b"b\n\""), 1);
        assert_eq!(table.find(b"c"), 2);
        assert_eq!(table.find(b"d"), NONE);
        assert_eq!(table.columns[0].len(), 4);
    }
}

#[test]
fn load_csv_faults_name_line_and_column() {
    for (text, want) in [
        ("id,n,b\nx,1\n", "line 2, column 3: the row has 2 fields, the table has 3 columns"),
        ("id,n,b\nx,1,true,2\n", "line 2, column 10: the row has 4 fields, the table has 3 columns"),
        ("id,n,b\nx,1,yes\n", "line 2, column 5: `yes` in column `b` is no `true` or `false`"),
        ("id,n,b\n\"x\n\",1,true\ny,0x1,true", "line 4, column 3: `0x1` in column `n` is no JSON number"),
        ("id,n,b\nx,1,true\nx,2,true", "line 3, column 1: key `x` is already on line 2"),
        ("id,n,n\n", "line 1, column 6: column `n` is there twice"),
        ("id,m,b\n", "no column `n`"),
        ("", "no header line"),
        ("id,n,b\n\"x,1,true\n", "line 2, column 1: the quote is never closed"),
    ] {
        let found = fault(CSV, Format::Csv, text);
        assert!(found.starts_with(want), "{found}\n{want}");
    }
}

#[test]
fn load_csv_bad_utf8_is_refused_at_its_field() {
    let result = read(&lookup(CSV), Format::Csv, b"id,n,b\nx,1,\xff\n", 100);
    assert_eq!(result.err().unwrap().to_string(), "line 2, column 5: not UTF-8");
}

const NDJSON: &str = r#"{"field":"k","key":"id","table":{"file":"t","format":"ndjson"},"copy":["v"]}"#;

#[test]
fn load_ndjson_numbers_are_keys_by_their_text() {
    let text = "{\"id\":404,\"v\":\"not found\"}\n\n{\"id\":\"t\\u0065xt\",\"v\":{\"a\":1.50}}";
    for size in [1, 7, 1000] {
        let mut table = read(&lookup(NDJSON), Format::Ndjson, text.as_bytes(), size).unwrap();
        assert_eq!((table.find(b"404"), table.find(b"text"), table.otherwise), (0, 1, 2));
    }
}

#[test]
fn load_ndjson_faults_name_line_and_column() {
    for (text, want) in [
        ("{\"id\":1}\n{\"id\":}\n", "line 2, column 7: expected value"),
        ("[]", "line 1, column "),
        ("{\"v\":1}", "line 1, column 1: no key: `id`"),
        ("{\"id\":null}", "line 1, column 1: no key: `id`"),
        ("{\"id\":1}\n{\"id\":\"1\"}", "line 2, column 1: key `1` is already on line 1"),
    ] {
        let found = fault(NDJSON, Format::Ndjson, text);
        assert!(found.starts_with(want), "{found}\n{want}");
    }
}

#[test]
fn load_networks_equal_but_written_differently_are_duplicates() {
    let config = r#"{"field":"k","match":"cidr","table":{"file":"t"},"copy":["v"]}"#;
    let text = "net,v\n2001:db8::/32,1\n2001:DB8:0::/32,2\n";
    assert!(
        fault(config, Format::Csv, text).starts_with("line 3, column 1: key `2001:DB8:0::/32` is already")
    );
    let bits = fault(config, Format::Csv, "net,v\n10.0.0.1/8,1\n");
    assert_eq!(
        bits,
        "line 2, column 1: `10.0.0.1/8`: bits behind the length are set; the network is 10.0.0.0/8"
    );
}

#[test]
fn load_duplicates_first_and_last_are_kept_as_told() {
    let text = "id,v\nx,1\ny,2\nx,3\n";
    for (word, matching) in [("first", "exact"), ("last", "exact"), ("first", "prefix"), ("last", "prefix")] {
        let config = format!(
            r#"{{"field":"k","match":"{matching}","duplicates":"{word}","table":{{"file":"t"}},"copy":["v"]}}"#
        );
        let mut table = read(&lookup(&config), Format::Csv, text.as_bytes(), 100).unwrap();
        assert_eq!(table.find(b"x"), if word == "first" { 0 } else { 2 }, "{word} {matching}");
    }
}

#[test]
fn load_case_is_ignored_only_if_told() {
    let config = r#"{"field":"k","ignore_case":true,"table":{"file":"t"},"copy":["v"]}"#;
    let mut table = read(&lookup(config), Format::Csv, b"id,v\nAlice,1\n", 100).unwrap();
    assert_eq!((table.find(b"aLICE"), table.find(b"bob")), (0, NONE));
}

#[test]
fn load_too_long_tables_and_rows_are_refused() {
    let config = r#"{"field":"k","table":{"file":"t","max_bytes":10},"copy":["v"]}"#;
    assert_eq!(fault(config, Format::Csv, "id,v\nlonger,1\n"), "longer than 10 bytes (`max_bytes`)");
    let text = format!("id,v\nx,\"{}", "y".repeat(ROW_MAX + 10));
    let result =
        read(&lookup(&config.replace(",\"max_bytes\":10", "")), Format::Csv, text.as_bytes(), 1 << 18);
    assert!(result.err().unwrap().to_string().starts_with("line 2, column 1: the row is longer"));
}

#[test]
fn compact_only_white_space_between_tokens_goes() {
    let text = "{ \"a b\" : [ 1.0,\n\t\"\\\\\" , \"\\\" x\" ] }";
    assert_eq!(compact(text), r#"{"a b":[1.0,"\\","\" x"]}"#);
}
