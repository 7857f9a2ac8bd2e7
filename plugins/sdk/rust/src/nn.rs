//! Made by `BLESS=1 cargo test -p wasmill-sdk --test bindings`.
