//! Which addresses are taken, and who reads standard input.

use std::collections::HashMap;
use std::net::SocketAddr;

use crate::resolve::Resolver;
use crate::settings::{Http, Source, Stream};

impl Resolver<'_> {
    /// Two listeners cannot share an address, and standard input has one reader.
    pub(crate) fn listeners(&mut self, http: &Http, streams: &[Stream]) {
        let mut taken: HashMap<SocketAddr, String> = HashMap::new();
        let http_sound = self.sound("http.listen");
        if let Some(listen) = http.listen.filter(|listen| listen.port() != 0 && http_sound) {
            taken.insert(listen, "http".to_owned());
        }
        let mut stdin: Option<String> = None;
        for stream in streams {
            for of in &stream.sources {
                let key = &of.key;
                if self.bad.has(key) || self.judged.has(key) || self.bad.has(&format!("{key}.type")) {
                    continue;
                }
                let reader = match &of.name {
                    Some(name) => format!("source \"{name}\" of stream \"{}\"", stream.name),
                    None => format!("stream \"{}\"", stream.name),
                };
                match &of.source {
                    Source::Http if http.listen.is_none() && http_sound => {
                        self.problem(key, "an http source needs http.listen, which is \"off\"");
                    }
                    Source::Http | Source::File(_) | Source::Kinesis(_) => {}
                    Source::Stdin { .. } => match &stdin {
                        Some(other) => {
                            self.problem(key, format!("standard input is read by {other} already"));
                        }
                        None => stdin = Some(reader),
                    },
                    Source::Tcp(tcp) if tcp.listen.port() == 0 => {}
                    Source::Tcp(tcp) => {
                        if let Some(other) = taken.get(&tcp.listen) {
                            let message = format!("{} is taken by {other} already", tcp.listen);
                            self.problem(&format!("{key}.listen"), message);
                        } else {
                            taken.insert(tcp.listen, reader);
                        }
                    }
                }
            }
        }
    }
}
