//! Files that are small or valid, and cost whoever looks into them: nesting, exponential types, functions by the thousand,
//! functions by the megabyte, segments, instances.
#![expect(
    clippy::expect_used,
    reason = "support of tests: what cannot be set up fails the test that wanted it"
)]

use std::fmt::Write as _;

use wasmill_transform::componentize;

use super::core::Core;
use super::files::section;
use super::{Answer, Case};

const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";

/// A section with exactly these contents.
fn whole(id: u8, contents: &[u8]) -> Vec<u8> {
    section(id, u32::try_from(contents.len()).unwrap_or(u32::MAX), contents)
}

/// Components within one another.
fn nested(depth: usize) -> Vec<u8> {
    let mut component = COMPONENT.to_vec();
    for _ in 0..depth {
        component = [COMPONENT, &whole(4, &component)].concat();
    }
    component
}

/// A component of types of which each is made of the one before.
fn types(count: usize, each: impl Fn(usize) -> String) -> Vec<u8> {
    let mut text = String::from("(component (type $t0 u8)");
    for number in 1..=count {
        let _infallible = write!(text, "(type $t{number} {})", each(number - 1));
    }
    let _infallible = write!(text, "(import \"f\" (func (param \"x\" $t{count}))))");
    wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}"))
}

/// The same in the metadata of a core module.
fn types_in_metadata() -> Vec<u8> {
    let mut types = String::from("type t0 = tuple<u8, u8>; ");
    for number in 1..24 {
        let _infallible = write!(types, "type t{number} = tuple<t{0}, t{0}>; ", number - 1);
    }
    let core = Core {
        packages: vec![format!("package evil:types; interface all {{ {types} f: func(x: t23) -> t23; }}")],
        world: "import evil:types/all;".to_owned(),
        ..Core::default()
    };
    core.wasm()
}

/// A plugin with these sections behind those that make it one.
fn and_then(sections: &[u8]) -> Vec<u8> {
    let core = Core::default().wasm();
    let mut component = componentize(&core).expect("a component").into_owned();
    component.extend_from_slice(sections);
    component
}

/// Another core module, and instances of it.
fn instances(module: &str, count: u8) -> Vec<u8> {
    let module = wat::parse_str(module).expect("a module");
    // Three modules are there: the plugin's own and the two that tie it to its imports.
    let one = [0, 3, 0];
    let mut contents = vec![count];
    contents.extend(one.repeat(usize::from(count)));
    and_then(&[whole(1, &module), whole(2, &contents)].concat())
}

/// A number as it is written in front of things.
fn number(number: u32) -> Vec<u8> {
    section(0, number, &[]).split_off(1)
}

/// Beside the plugin's own, a module with one type, of a function that takes and gives nothing, and these sections.
fn beside(sections: &[u8]) -> Vec<u8> {
    and_then(&whole(1, &[b"\0asm\x01\0\0\0".as_slice(), &whole(1, &[1, 0x60, 0, 0]), sections].concat()))
}

/// The same with one function, whose body this is.
fn one_function(body: &[u8]) -> Vec<u8> {
    let size = number(u32::try_from(body.len()).unwrap_or(u32::MAX));
    beside(&[whole(3, &[1, 0]), whole(10, &[&[1], size.as_slice(), body].concat())].concat())
}

/// So many functions, each of a few instructions.
fn functions(count: usize) -> Vec<u8> {
    let one = "(func (param i32) (result i32) (i32.mul (i32.add (local.get 0) (i32.const 3)) (local.get 0)))";
    Core::items(one.repeat(count)).wasm()
}

/// A plugin of 3000 functions of 400 steps each, that does no harm once it is compiled: half a minute for the compiler.
pub fn compile_bomb() -> Vec<u8> {
    let mut items = String::new();
    for function in 0..3000 {
        items.push_str("(func (param i32) (result i32) (local i32)");
        for step in 0..400 {
            let _infallible = write!(
                items,
                "(local.set 1 (i32.add (i32.mul (local.get 0) (i32.const {})) (i32.xor (local.get 1) (i32.const {step}))))",
                function + step
            );
        }
        items.push_str("(local.get 1))");
    }
    Core::items(items).wasm()
}

pub(super) fn cases() -> Vec<Case> {
    use Answer::{Harmless, Letter, Refused, Unfit};
    let items = |text: String| Core::items(text).wasm();
    let targets =
        |count: usize| format!("(func (param i32) (block (br_table{} (local.get 0))))", " 0".repeat(count));
    let many_locals = format!(
        "(func (param i32) {} {} (loop {} (br_if 0 (local.get 0))))",
        "(local i32)".repeat(2000),
        (1..2000).map(|n| format!("(local.set {n} (i32.load (i32.const {n})))")).collect::<String>(),
        (1..2000)
            .map(|n| format!("(local.set {n} (i32.add (local.get {n}) (local.get {})))", n / 2))
            .collect::<String>(),
    );
    let deep_blocks = format!("(func {} {})", "(block ".repeat(900), ")".repeat(900));
    vec![
        Case::new("components-nested", Refused(""), nested(90)),
        Case::new("components-nested-without-end", Refused(""), nested(5000)),
        Case::new(
            "types-nested-without-end",
            Refused(""),
            types(5000, |before| format!("(list $t{before})")),
        ),
        Case::new(
            "types-exponential",
            Refused(""),
            types(40, |before| format!("(tuple $t{before} $t{before})")),
        ),
        Case::new("types-exponential-in-metadata", Refused(""), types_in_metadata()),
        Case::new("instances-by-the-hundred", Refused("core module instances"), {
            let sections = instances("(module)", 120);
            // Twice more of the same.
            let more = whole(2, &[vec![120], [0, 3, 0].repeat(120)].concat());
            [sections, more.clone(), more].concat()
        }),
        Case::new("instance-that-loops-at-its-start", Unfit("deadline"), {
            instances("(module (func $f (loop $ever (br $ever))) (start $f))", 1)
        }),
        Case::new("functions-by-the-thousand", Harmless, functions(4000)),
        Case::new("functions-beyond-count", Refused("functions count exceeds"), {
            let many = 1_000_001_u32;
            let types = [number(many), vec![0; many as usize]].concat();
            let bodies = [number(many), [2, 0, 0x0b].repeat(many as usize)].concat();
            beside(&[whole(3, &types), whole(10, &bodies)].concat())
        }),
        Case::new("function-of-eight-megabytes", Refused("size"), {
            // No locals, instructions that do nothing, an end.
            one_function(&[vec![0], vec![1; 8_000_000], vec![0x0b]].concat())
        }),
        // Its one group of locals has 2^32 - 1 of them.
        Case::new("function-with-locals-beyond-count", Refused("too many locals"), {
            one_function(&[1, 0xff, 0xff, 0xff, 0xff, 0x0f, 0x7f, 0x0b])
        }),
        Case::new("memory-shared", Refused("thread"), {
            and_then(&whole(1, &wat::parse_str("(module (memory 1 2 shared))").expect("a module")))
        }),
        Case::new("function-of-many-instructions", Harmless, {
            items(format!(
                "(func (param i32) {})",
                "(local.set 0 (i32.mul (local.get 0) (i32.const 7)))".repeat(10_000)
            ))
        }),
        Case::new("function-with-thousands-of-locals-in-a-loop", Harmless, items(many_locals)),
        Case::new("function-with-a-huge-jump-table", Harmless, items(targets(50_000))),
        Case::new("function-with-a-jump-table-beyond-count", Refused("br_table"), items(targets(200_000))),
        Case::new("function-nested-deeply", Harmless, items(deep_blocks)),
        Case::new(
            "elements-by-the-hundred-thousand",
            Harmless,
            items(format!("(func $f) (elem func{})", " $f".repeat(300_000))),
        ),
        Case::new("data-by-the-megabyte", Harmless, items(format!("(data \"{}\")", "x".repeat(20 << 20)))),
        Case::new("names-without-end", Letter("unreachable"), {
            let name = "n".repeat(60_000);
            Core::rows_with(&format!("(func ${name} unreachable)"), &format!("(call ${name})")).wasm()
        }),
    ]
}
