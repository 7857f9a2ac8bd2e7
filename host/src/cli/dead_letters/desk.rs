//! Where the command line gets dead letters from: a running host over HTTP, or the files when no host runs.
//!
//! The lock of the data directory says which: whoever holds it owns the files.

use std::path::Path;

use anyhow::{Context, Result, bail};
use reqwest::Method;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::runtime::Runtime;
use wasmill_config::Settings;

use crate::cli::host_client::{Access, HostClient, stream_path};
use crate::cli::runtime;
use crate::pipeline::dead_letters::{Change, Changes, DeadLetter, Filter};
use crate::pipeline::stats::wall_clock_ns;
use crate::pipeline::{OfflineError, OfflineLetters, Page, Replayed, Wanted, open_offline, page};

type Pairs<'a> = [(&'a str, String)];

/// See the head of this file.
pub(super) enum Desk {
    Host { runtime: Runtime, client: HostClient, stream: String, letters: String },
    Files { letters: Box<OfflineLetters>, stream: String, places: Vec<String> },
}

impl Desk {
    /// `from` is a configuration or the address of a host.
    pub(super) fn open(from: &str, stream: &str, access: &Access) -> Result<Desk> {
        if from.starts_with("http://") || from.starts_with("https://") {
            return Desk::at(from, stream, access);
        }
        let settings = Settings::load(Path::new(from))?;
        let Some(settings_of) = settings.streams.iter().find(|known| known.name == stream) else {
            let known: Vec<&str> = settings.streams.iter().map(|known| known.name.as_str()).collect();
            bail!("{from} has no stream {stream:?}, it has {}", known.join(", "));
        };
        match open_offline(&settings, settings_of) {
            Ok(Some(letters)) => {
                let transforms = settings_of.transforms.iter().map(|transform| transform.name.clone());
                let outputs = settings_of.outputs.iter().map(|output| output.name.clone());
                let places = transforms.chain(outputs).collect();
                Ok(Desk::Files { letters: Box::new(letters), stream: stream.to_owned(), places })
            }
            Ok(None) => bail!("nothing has ever run in {}", settings.data_dir.display()),
            Err(error @ OfflineError::Running { .. }) => {
                let otherwise = "give its address with --host URL";
                Desk::host(HostClient::listening(&settings.http, &error, otherwise, access)?, stream)
            }
            Err(error) => Err(error).with_context(|| settings.data_dir.display().to_string()),
        }
    }

    /// `address` is that of a host.
    pub(super) fn at(address: &str, stream: &str, access: &Access) -> Result<Desk> {
        Desk::host(HostClient::new(address, access)?, stream)
    }

    fn host(client: HostClient, stream: &str) -> Result<Desk> {
        let letters = format!("{}/dead-letters", stream_path(stream));
        Ok(Desk::Host { runtime: runtime()?, client, stream: stream.to_owned(), letters })
    }

    /// Names of the transforms and outputs that the stream has now.
    pub(super) fn places(&self) -> Result<Vec<String>> {
        match self {
            Desk::Host { stream, .. } => {
                let streams: Value = self.ask(Method::GET, "/v1/streams", &[])?;
                let named = |value: &Value| value["name"].as_str().map(str::to_owned);
                let found = streams.as_array().and_then(|all| all.iter().find(|of| of["name"] == **stream));
                let lists = ["transforms", "outputs"].map(|list| found.and_then(|of| of[list].as_array()));
                Ok(lists.into_iter().flatten().flatten().filter_map(named).collect())
            }
            Desk::Files { places, .. } => Ok(places.clone()),
        }
    }

    /// Up to `limit` letters above number `after`.
    pub(super) fn page(&self, pairs: &Pairs<'_>, after: u64, limit: usize) -> Result<Page> {
        match self {
            Desk::Host { letters, .. } => {
                let mut pairs = pairs.to_vec();
                pairs.push(("after", after.to_string()));
                pairs.push(("limit", limit.to_string()));
                let mut answer: Value = self.ask(Method::GET, letters, &pairs)?;
                let next = answer["next"].as_u64();
                let letters =
                    serde_json::from_value(answer["letters"].take()).context("read the host's answer")?;
                Ok(Page { letters, next })
            }
            Desk::Files { letters, .. } => {
                let wanted = Wanted { filter: filter(pairs)?, after, limit };
                page(&letters.store.view(), &wanted).context("read the dead letters")
            }
        }
    }

    pub(super) fn show(&self, number: u64) -> Result<DeadLetter> {
        match self {
            Desk::Host { letters, .. } => self.ask(Method::GET, &format!("{letters}/{number}"), &[]),
            Desk::Files { stream, .. } => {
                let page = self.page(&[("number", number.to_string())], number.saturating_sub(1), 1)?;
                let letter = page.letters.into_iter().next();
                letter.with_context(|| format!("stream {stream:?} has no dead letter {number}"))
            }
        }
    }

    /// Removes the letters that match. Returns how many.
    pub(super) fn remove(&mut self, pairs: &Pairs<'_>) -> Result<u64> {
        match self {
            Desk::Host { letters, .. } => {
                let path = letters.clone();
                let answer: Value = self.ask(Method::DELETE, &path, pairs)?;
                answer["removed"].as_u64().context("read the host's answer")
            }
            Desk::Files { letters, .. } => {
                let numbers =
                    letters.store.view().numbers(&filter(pairs)?).context("read the dead letters")?;
                let changes: Changes = numbers.into_iter().map(|number| (number, Change::Removed)).collect();
                Ok(letters.store.apply(&changes).context("remove dead letters")?.removed)
            }
        }
    }

    /// One step of a replay: what became of up to `limit` letters, and where the next step goes on.
    pub(super) fn replay(
        &self,
        pairs: &Pairs<'_>,
        plugins: &[String],
        after: u64,
        limit: usize,
    ) -> Result<(Replayed, Option<u64>)> {
        let Desk::Host { letters, .. } = self else {
            bail!(
                "no host runs: start it first, since a replay runs plugins and delivers; list, show, export and purge work without"
            );
        };
        let mut pairs = pairs.to_vec();
        pairs.push(("after", after.to_string()));
        pairs.push(("limit", limit.to_string()));
        pairs.extend(plugins.iter().map(|plugin| ("plugin", plugin.clone())));
        let answer: Value = self.ask(Method::POST, &format!("{letters}/replay"), &pairs)?;
        let next = answer["next"].as_u64();
        Ok((serde_json::from_value(answer).context("read the host's answer")?, next))
    }

    fn ask<T: DeserializeOwned>(&self, method: Method, path: &str, pairs: &Pairs<'_>) -> Result<T> {
        let Desk::Host { runtime, client, .. } = self else { bail!("no host runs") };
        runtime.block_on(client.ask(method, path, pairs))
    }
}

/// Of names and texts.
pub(super) fn filter(pairs: &Pairs<'_>) -> Result<Filter> {
    let mut filter = Filter::default();
    let now = wall_clock_ns();
    for (name, text) in pairs {
        // `all` is a word of the API.
        filter.set(name, text, now).map_err(anyhow::Error::msg)?;
    }
    Ok(filter)
}
