//! Tests that hold wherever guests run.

/// Where guests run.
#[derive(Clone, Copy)]
pub(crate) enum Place {
    Here,
    /// In a process of their own.
    Apart,
}

/// Makes two tests of each of these functions, which take a [`Place`].
macro_rules! in_both_places {
    ($($test:ident,)*) => {
        mod here {
            $(#[test] fn $test() { super::$test(crate::places::Place::Here); })*
        }
        mod apart {
            $(#[test] fn $test() { super::$test(crate::places::Place::Apart); })*
        }
    };
}
pub(crate) use in_both_places;
