//! The functions: names, arguments, types. What they compute is in `eval`.

use crate::syntax::Type;

macro_rules! functions {
    ($($variant:ident $name:literal $least:literal..$most:literal [$($argument:ident),*] -> $result:ident;)*) => {
        /// A function of the language.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Function { $($variant),* }

        impl Function {
            /// Every name, for look-up and for the nearest one.
            pub(crate) const NAMES: &'static [&'static str] = &[$($name),*];

            pub(crate) fn find(name: &str) -> Option<Self> {
                match name {
                    $($name => Some(Self::$variant),)*
                    _ => None,
                }
            }

            /// Least and greatest number of arguments.
            pub(crate) fn arity(self) -> (usize, usize) {
                match self { $(Self::$variant => ($least, $most)),* }
            }

            /// Types of the arguments; the last one goes for all further ones.
            pub(crate) fn argument(self, number: usize) -> Type {
                let types: &[Type] = match self { $(Self::$variant => &[$(Type::$argument),*]),* };
                types.get(number).or(types.last()).copied().unwrap_or(Type::Any)
            }

            pub(crate) fn result(self) -> Type {
                match self { $(Self::$variant => Type::$result),* }
            }
        }
    };
}

functions! {
    Lower "lower" 1..1 [Text] -> Text;
    Upper "upper" 1..1 [Text] -> Text;
    Trim "trim" 1..1 [Text] -> Text;
    Len "len" 1..1 [Text] -> Number;
    Substr "substr" 2..3 [Text, Number] -> Text;
    Split "split" 3..3 [Text, Text, Number] -> Text;
    Replace "replace" 3..3 [Text] -> Text;
    Contains "contains" 2..2 [Text] -> Bool;
    StartsWith "starts_with" 2..2 [Text] -> Bool;
    EndsWith "ends_with" 2..2 [Text] -> Bool;
    Concat "concat" 1..64 [Any] -> Text;
    ParseTime "parse_time" 1..2 [Text] -> Number;
    FormatTime "format_time" 1..2 [Any, Text] -> Text;
    Epoch "epoch" 1..1 [Any] -> Number;
    Year "year" 1..1 [Any] -> Number;
    Month "month" 1..1 [Any] -> Number;
    Day "day" 1..1 [Any] -> Number;
    Hour "hour" 1..1 [Any] -> Number;
    Minute "minute" 1..1 [Any] -> Number;
    Weekday "weekday" 1..1 [Any] -> Number;
    Now "now" 0..0 [] -> Number;
    Offset "offset" 0..0 [] -> Number;
    Source "source" 0..0 [] -> Text;
    Attribute "attribute" 1..1 [Text] -> Text;
    Hash "hash" 1..2 [Any, Number] -> Number;
    Coalesce "coalesce" 1..64 [Any] -> Any;
    Exists "exists" 1..1 [Any] -> Bool;
    IsNull "is_null" 1..1 [Any] -> Bool;
    Int "int" 1..1 [Any] -> Number;
    Float "float" 1..1 [Any] -> Number;
    Text "text" 1..1 [Any] -> Text;
    Abs "abs" 1..1 [Number] -> Number;
    Round "round" 1..2 [Number] -> Number;
    Floor "floor" 1..1 [Number] -> Number;
    Ceil "ceil" 1..1 [Number] -> Number;
    Min "min" 1..64 [Number] -> Number;
    Max "max" 1..64 [Number] -> Number;
}
