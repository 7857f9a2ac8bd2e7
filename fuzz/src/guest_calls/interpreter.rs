//! The guest: a core module that interprets a script, and how a script is written into its memory.
//!
//! It makes every call that it is told to, and refuses nothing: that is for the host to do.

/// Where the guest's memory holds the image of its script, and where its allocations begin.
pub(super) const BASE: u32 = 64 << 10;
const HEAP: u32 = BASE + (1 << 20);
pub(super) const PAGES: u32 = 32;
/// Where the guest's imports write what they return.
pub(super) const ANSWER: u32 = 32;
/// Zeros, which nothing is written to: the result ok.
const OK: u32 = 2048;
/// An argument that stands for a handle which the guest was given: this, and its place among `HANDLES`.
pub(super) const HANDLE: u32 = 0x7fff_0000;
pub(super) const HANDLES: u32 = 16;
/// Interface, function, number of core parameters, core result. The interpreter's operations, from 1 on.
const IMPORTS: [(&str, &str, u32, &str); 42] = [
    ("records", "[resource-drop]chunk", 1, ""),
    ("records", "[method]chunk.len", 1, "i32"),
    ("records", "[method]chunk.seed", 1, "i64"),
    ("records", "[method]chunk.offsets", 2, ""),
    ("records", "[method]chunk.arrival-times", 2, ""),
    ("records", "[method]chunk.keys", 2, ""),
    ("records", "[method]chunk.attributes", 4, ""),
    ("records", "[method]chunk.payloads", 2, ""),
    ("records", "[method]chunk.get-text", 3, ""),
    ("records", "[method]chunk.get-raw", 3, ""),
    ("records", "[method]chunk.get-floats", 3, ""),
    ("records", "[method]chunk.get-ints", 3, ""),
    ("records", "[method]chunk.get-strings", 3, ""),
    ("records", "[method]chunk.set-payloads", 7, ""),
    ("records", "[method]chunk.clear", 3, ""),
    ("records", "[method]chunk.set-text", 8, ""),
    ("records", "[method]chunk.set-raw", 8, ""),
    ("records", "[method]chunk.set-floats", 6, ""),
    ("records", "[method]chunk.set-ints", 6, ""),
    ("records", "[method]chunk.set-strings", 4, ""),
    ("records", "[method]chunk.set-keys", 7, ""),
    ("records", "[method]chunk.set-attributes", 9, ""),
    ("records", "[method]chunk.partition", 9, ""),
    ("records", "[method]chunk.route", 3, ""),
    ("records", "[method]chunk.keep", 3, ""),
    ("records", "[method]chunk.fail", 7, ""),
    ("records", "[method]chunk.derive", 3, "i32"),
    ("records", "[static]chunk.fresh", 1, "i32"),
    ("records", "emit", 1, ""),
    ("setup", "field", 2, "i32"),
    ("setup", "output", 3, ""),
    ("setup", "secret", 3, ""),
    ("setup", "file", 5, ""),
    ("log", "write", 3, ""),
    ("state", "table", 5, ""),
    ("state", "groups", 2, ""),
    ("state", "group-of", 5, ""),
    ("state", "get", 8, ""),
    ("state", "versions", 8, ""),
    ("state", "put", 13, ""),
    ("state", "add", 10, ""),
    ("state", "scan", 11, ""),
];

/// The interpreter. Its script is the granted file `image`: the addresses of the calls of `configure`, of those of
/// `process`, and of what `cabi_realloc` answers first, and the number of these answers.
pub(super) fn text() -> String {
    let (mut imports, mut operations) = (String::new(), String::new());
    for (index, (interface, name, params, result)) in IMPORTS.iter().enumerate() {
        // Wide ones are the offset in a file, and a time to live.
        let wide = |at: u32| matches!((*interface, *name, at), ("setup", "file", 2) | ("state", "table", 3));
        let types: String = (0..*params).map(|at| if wide(at) { " i64" } else { " i32" }).collect();
        let result_type = if result.is_empty() { String::new() } else { format!("(result {result})") };
        imports += &format!(
            "(import \"wasmill:plugin/{interface}@0.1.3\" \"{name}\" (func $f{index} (param{types}) {result_type}))\n"
        );
        let arg = |at: u32| format!("(call $arg (i32.const {at}))");
        let args: String = (0..*params)
            .map(|at| if wide(at) { format!("(i64.extend_i32_u {})", arg(at)) } else { arg(at) })
            .collect();
        let call = format!("(call $f{index} {args})");
        let (call, words) = match *result {
            "i32" => {
                let place = format!("(i32.shl (i32.and {} (i32.const 15)) (i32.const 2))", arg(*params));
                (format!("(i32.store offset=256 {place} {call})"), params + 2)
            }
            "i64" => (format!("(drop {call})"), params + 1),
            _ => (call, params + 1),
        };
        operations += &format!(
            "(if (i32.eq (i32.load (global.get $pc)) (i32.const {})) (then {call}
               (global.set $pc (i32.add (global.get $pc) (i32.const {}))) (br $next)))\n",
            index + 1,
            4 * words
        );
    }
    let file = IMPORTS.iter().position(|import| import.1 == "file").unwrap();
    let (answers, count, process) = (BASE + 8, BASE + 12, BASE + 4);
    format!(
        r#"(module
          {imports}
          (memory (export "memory") {PAGES})
          (data (i32.const 1024) "image")
          (global $loaded (mut i32) (i32.const 0))
          (global $top (mut i32) (i32.const {HEAP}))
          (global $allocations (mut i32) (i32.const 0))
          (global $pc (mut i32) (i32.const 0))
          (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
            (local $at i32)
            (if (i32.eqz (global.get $loaded)) (then (return (i32.const {BASE}))))
            (if (i32.lt_u (global.get $allocations) (i32.load (i32.const {count}))) (then
              (local.set $at (i32.load (i32.add (i32.load (i32.const {answers}))
                (i32.shl (global.get $allocations) (i32.const 2)))))
              (global.set $allocations (i32.add (global.get $allocations) (i32.const 1)))
              (if (local.get $at) (then (return (local.get $at))))))
            (local.set $at (global.get $top))
            (global.set $top (i32.and (i32.add (i32.add (global.get $top) (local.get 3)) (i32.const 15)) (i32.const -16)))
            (local.get $at))
          (func $arg (param $at i32) (result i32)
            (local $value i32)
            (local.set $value
              (i32.load offset=4 (i32.add (global.get $pc) (i32.shl (local.get $at) (i32.const 2)))))
            (if (result i32) (i32.eq (i32.and (local.get $value) (i32.const -16)) (i32.const {HANDLE}))
              (then (i32.load offset=256 (i32.shl (i32.and (local.get $value) (i32.const 15)) (i32.const 2))))
              (else (local.get $value))))
          (func $run (result i32)
            (loop $next
              {operations})
            (call $arg (i32.const 0)))
          (func (export "wasmill:plugin/transform@0.1.3#configure") (param i32 i32) (result i32)
            (call $f{file} (i32.const 1024) (i32.const 5) (i64.const 0) (i32.const {BASE}) (i32.const {ANSWER}))
            (global.set $loaded (i32.const 1))
            (global.set $pc (i32.load (i32.const {BASE})))
            (call $run))
          (func (export "wasmill:plugin/transform@0.1.3#process") (param $rows i32) (result i32)
            (global.set $top (i32.const {HEAP}))
            (global.set $allocations (i32.const 0))
            ;; The probe of a chain, which no script is made for.
            (if (i32.eqz (call $f1 (local.get $rows))) (then
              (call $f0 (local.get $rows))
              (return (i32.const {OK}))))
            (i32.store (i32.const 256) (local.get $rows))
            (global.set $pc (i32.load (i32.const {process})))
            (call $run)))"#
    )
}

/// What a guest's memory holds beside its stack: lists, texts, scripts.
pub(super) struct Image(Vec<u8>);

impl Image {
    /// With room for the addresses at its front.
    pub(super) fn new() -> Image {
        Image(vec![0; 16])
    }

    /// The address of these bytes.
    pub(super) fn put(&mut self, bytes: &[u8]) -> u32 {
        self.0.resize(self.0.len().next_multiple_of(8), 0);
        let at = BASE + self.0.len() as u32;
        self.0.extend_from_slice(bytes);
        at
    }

    pub(super) fn put_words(&mut self, words: &[u32]) -> u32 {
        self.put(&words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>())
    }

    pub(super) fn finish(mut self, configure: &[Script], process: &[Script], answers: &[u32]) -> Vec<u8> {
        let all = |script: &[Script]| script.iter().flat_map(|call| call.0.clone()).collect::<Vec<u32>>();
        let head = [
            self.put_words(&all(configure)),
            self.put_words(&all(process)),
            self.put_words(answers),
            answers.len() as u32,
        ];
        for (word, place) in head.iter().zip(self.0.chunks_mut(4)) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        self.0
    }
}

/// One operation and its arguments.
pub(super) struct Script(Vec<u32>);

impl Script {
    pub(super) fn call(name: &str, args: &[u32]) -> Script {
        let method = format!("]{name}");
        let is = |import: &str| import == name || import.ends_with(&method);
        let index = IMPORTS.iter().position(|import| is(import.1)).unwrap();
        let words = IMPORTS[index].2 + u32::from(IMPORTS[index].3 == "i32");
        assert_eq!(args.len(), words as usize, "arguments of {name}");
        Script(std::iter::once(index as u32 + 1).chain(args.iter().copied()).collect())
    }

    /// Returns what lies at an address.
    pub(super) fn end(at: u32) -> Script {
        Script(vec![0, at])
    }

    /// Returns ok.
    pub(super) fn end_well() -> Script {
        Script::end(OK)
    }

    pub(super) fn drop_rows() -> Script {
        Script::call("[resource-drop]chunk", &[HANDLE])
    }
}
