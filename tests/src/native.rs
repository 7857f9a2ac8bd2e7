//! The same plugin crates compiled natively, for chains that are compared with their components.

use std::collections::BTreeMap;
use std::sync::Arc;

use wasmill_chunk::Chunk;
use wasmill_sdk::Plugin as SdkPlugin;
use wasmill_sdk::native::{Grants, Native};
use wasmill_transform::{NativeInstance, NativeSetup, Plugin};

struct Adapter<P>(Native<P>);

impl<P: SdkPlugin + Send> NativeInstance for Adapter<P> {
    fn fields(&self) -> &[Vec<String>] {
        self.0.fields()
    }

    fn process(&mut self, chunk: &mut Chunk) -> Result<(), String> {
        self.0.process(chunk)
    }
}

fn configure<P: SdkPlugin + Send + 'static>(
    setup: &NativeSetup<'_>,
) -> Result<Box<dyn NativeInstance>, String> {
    let files: BTreeMap<String, Vec<u8>> =
        setup.files.iter().map(|(name, file)| (name.clone(), file.bytes.to_vec())).collect();
    let grants = Grants { outputs: setup.outputs.to_vec(), secrets: setup.secrets.clone(), files };
    Ok(Box::new(Adapter(Native::<P>::configure(setup.config, &grants)?)))
}

/// A first-party plugin by its name.
pub fn plugin(name: &str) -> Option<Arc<Plugin>> {
    Some(match name {
        "derive" => Plugin::native(name, Arc::new(configure::<wasmill_derive::Derive>)),
        "enrich" => Plugin::native(name, Arc::new(configure::<wasmill_enrich::Enrich>)),
        "features" => Plugin::native(name, Arc::new(configure::<wasmill_features::Features>)),
        "filter" => Plugin::native(name, Arc::new(configure::<wasmill_filter::Filter>)),
        "jq" => Plugin::native(name, Arc::new(configure::<wasmill_jq::Jq>)),
        "parse" => Plugin::native(name, Arc::new(configure::<wasmill_parse::Parse>)),
        "redact" => Plugin::native(name, Arc::new(configure::<wasmill_redact::Redact>)),
        "unpack" => Plugin::native(name, Arc::new(configure::<wasmill_unpack::Unpack>)),
        _ => return None,
    })
}
